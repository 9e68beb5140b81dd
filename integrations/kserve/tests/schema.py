"""Checks a manifest against the classes that KServe and Kubernetes generate from their own schemas: no unknown key, every required one,
right types, values that the classes take. Stricter than their deserialisers, which pass over unknown keys."""

import datetime
import re

import kserve
import kubernetes.client

KINDS = {("serving.kserve.io/v1alpha1", "ClusterServingRuntime"): kserve.V1alpha1ClusterServingRuntime,
         ("serving.kserve.io/v1alpha1", "ServingRuntime"): kserve.V1alpha1ServingRuntime,
         ("serving.kserve.io/v1beta1", "InferenceService"): kserve.V1beta1InferenceService}
PLAIN = {"str": str, "int": int, "bool": bool, "float": (int, float), "object": object, "datetime": datetime.datetime}
TEXTS = {"IntOrString": (int, str), "ResourceQuantity": (int, float, str)}  # plain values to both generators


def problems(manifest):
    """Texts, with the path of each place."""
    kind = (manifest.get("apiVersion"), manifest.get("kind"))
    if kind not in KINDS:
        return [f"{kind}: not a kind that is known here"]
    found = []
    check(manifest, KINDS[kind], kind[1], found)
    return found


def class_of(name):
    for module in (kserve, kubernetes.client):
        if hasattr(module, name):
            return getattr(module, name)
    raise LookupError(f"{name}: neither KServe nor Kubernetes has this class")


def check(value, kind, path, found):
    """kind: a generated class, or a type as they write it: "list[V1Container]"."""
    if isinstance(kind, str):
        if match := re.fullmatch(r"[lL]ist\[(.*)\]", kind):
            if not isinstance(value, list):
                return found.append(f"{path}: {value!r} is no list")
            for i, item in enumerate(value):
                check(item, match[1], f"{path}[{i}]", found)
            return None
        if match := re.fullmatch(r"(?:dict\(|Dict\[)str, (.*)[\])]", kind):
            if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
                return found.append(f"{path}: {value!r} is no map of texts")
            for key, item in value.items():
                check(item, match[1], f"{path}.{key}", found)
            return None
        types = PLAIN.get(kind) or TEXTS.get(kind)
        if types is not None:
            if not isinstance(value, types) or (isinstance(value, bool) and types not in (bool, object)):
                found.append(f"{path}: {value!r} is no {kind}")
            return None
        kind = class_of(kind)
    if not isinstance(value, dict):
        return found.append(f"{path}: {value!r} is no {kind.__name__}")
    names = {key: attribute for attribute, key in kind.attribute_map.items()}
    known = {}
    for key, item in value.items():
        if key not in names:
            found.append(f"{path}.{key}: {kind.__name__} has no such key")
            continue
        known[names[key]] = item
        check(item, kind.openapi_types[names[key]], f"{path}.{key}", found)
    try:
        kind(**known)  # complains of what is missing or not allowed
    except (TypeError, ValueError) as error:
        found.append(f"{path}: {error}")
    return None
