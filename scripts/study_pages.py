"""The pages of scripts/study.py: tables and figures of what is there. Standard library only."""
import datetime
import math
import os
import platform
import subprocess

COLOURS = ["#2b6cb0", "#c05621", "#2f855a", "#805ad5", "#b83280", "#4a5568", "#b7791f", "#2c7a7b", "#9b2c2c", "#718096"]


def mean(values):
    return sum(values) / len(values)


def svg(title, x_name, y_name, series, lines=True):
    """series: [(name, [(x, y)])]; one figure without dependencies."""
    width, height, left, right, top, bottom = 760, 420, 64, 150, 34, 46
    xs, ys = [x for _, p in series for x, _ in p], [y for _, p in series for _, y in p]
    pad = lambda lo, hi: (lo - 0.06 * (hi - lo or 1), hi + 0.06 * (hi - lo or 1))
    (x0, x1), (y0, y1) = pad(min(xs), max(xs)), pad(min(ys), max(ys))
    px = lambda x: left + (width - left - right) * (x - x0) / (x1 - x0)
    py = lambda y: height - bottom - (height - top - bottom) * (y - y0) / (y1 - y0)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui,sans-serif" '
           f'font-size="12"><rect width="100%" height="100%" fill="#fff"/>',
           f'<text x="{left}" y="20" font-size="14" fill="#1c2430">{title}</text>']
    for i in range(5):
        x, y = x0 + (x1 - x0) * i / 4, y0 + (y1 - y0) * i / 4
        out.append(f'<path d="M{left} {py(y):.1f}H{width - right}" stroke="#e3e7ec"/>'
                   f'<text x="{left - 8}" y="{py(y) + 4:.1f}" text-anchor="end" fill="#66707f">{y:.4g}</text>'
                   f'<text x="{px(x):.1f}" y="{height - bottom + 18}" text-anchor="middle" fill="#66707f">{x:.4g}</text>')
    out.append(f'<text x="{(left + width - right) / 2}" y="{height - 8}" text-anchor="middle" fill="#66707f">{x_name}</text>'
               f'<text x="16" y="{height / 2}" text-anchor="middle" fill="#66707f" '
               f'transform="rotate(-90 16 {height / 2})">{y_name}</text>')
    for i, (name, points) in enumerate(series):
        colour = COLOURS[i % len(COLOURS)]
        if lines:
            path = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in sorted(points))
            out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        out += [f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="3" fill="{colour}"/>' for x, y in points]
        out.append(f'<text x="{width - right + 12}" y="{top + 12 + 18 * i}" fill="{colour}">{name}</text>')
    return "\n".join(out) + "\n</svg>\n"


def machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
                 platform.machine())
    return f"{model}, {os.cpu_count()} cores"


def commit():
    done = subprocess.run(["git", "-C", os.path.dirname(__file__), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def heading(study, title):
    words = "study-" + study.name + ("" if study.options.size == "full" else f" SIZE={study.options.size}")
    return (f"# {title}\n\n{datetime.date.today()}, commit {commit()}, {machine()}. `make {words}`. Times are of a machine "
            "that other work shared: they show an order of magnitude; CPU seconds are firmer.\n\n")


def sizes_line(study):
    s, full = study.sizes, study.full
    some = lambda n, what: f"{n} {what}" if n else f"all {what}"
    long = lambda of: f"{s[of + '_steps']} steps" if s[of + "_steps"] else f"{s[of + '_epochs']} epochs"
    start = "from the BSD weights of the data folder" if "init" in study.net else "from nothing"
    text = (f"{s['network']}, {s['width']} channels in the first stage, {study.net['title']}: {some(s['limit'], 'training images')}; "
            f"float {s['float_epochs']} epochs {start}, all-4-bit {long('w4')} more from it (half of the loss from it, too), "
            f"mixes {long('mix')} of 64 images from the 4-bit network{' (taught as it was)' if s['taught'] else ''}, ALPS {long('alps')} a group"
            f"{', both on ' + str(s['short_limit']) + ' images' if s['short_limit'] else ''}; "
            f"mixes are tested on {some(s['test_limit'], 'test images')} in the runtime; seeds {', '.join(map(str, s['seeds']))}. "
            "First and last layer 8 bit, outside the budget.\n\n")
    if study.options.size != "full":
        text += (f"**Reduced** (`--size {study.options.size}`): the whole study trains in binary32, float {full['float_epochs']} epochs, "
                 f"all-4-bit {full['w4_epochs']}, mixes {full['mix_epochs']}, ALPS one a group, at {len(full['budgets'])} budgets "
                 f"with {len(full['seeds'])} seeds and {full['randoms']} random orders. Differences below the standard errors named here "
                 "say nothing about the selectors.\n\n")
    return text


def accuracy_table(networks):
    text = "| network | test accuracy %, 10,000 images |\n| --- | ---: |\n"
    for name, words in (("float", "float"), ("longer", "float, trained on as long as the 4-bit network"),
                        ("w4a4", "all 4 bit")):
        if networks.get(name) is not None:
            text += f"| {words} | {100 * networks[name]:.2f} |\n"
    return text


def cell(values, digits):
    if not values:
        return ""
    text = f"{mean(values):.{digits}f}"
    if len(values) > 1:
        spread = math.sqrt(sum((v - mean(values)) ** 2 for v in values) / (len(values) - 1) / len(values))
        text += f" ± {spread:.{digits}f}"
    return text


def verdict(study, networks, points):
    """The goals of the method, and by how much each is met or missed."""
    best = max(networks[name] for name in ("float", "longer") if networks.get(name) is not None)
    text = (f"\n## Beside the better float network ({100 * best:.2f} %)\n\nAll 4 bit: {100 * (networks['w4a4'] - best):+.2f} points "
            f"(aim: -0.30 or better).\n\n| selector | 75 % (aim: -0.50 or better) | mean of all budgets, beside EAGL | beside ALPS |\n"
            "| --- | ---: | ---: | ---: |\n")
    whole = {s: mean([mean([r[0] for r in rows[b]]) for b in rows]) for s, rows in points.items()
             if set(rows) == set(study.sizes["budgets"])}
    for selector, rows in points.items():
        at75 = f"{100 * (mean([r[0] for r in rows[75]]) - best):+.2f}" if 75 in rows else ""
        beside = [f"{100 * (whole[selector] - whole[own]):+.2f}" if selector in whole and own in whole else ""
                  for own in ("eagl", "alps")]
        text += f"| {selector} | {at75} | {beside[0]} | {beside[1]} |\n"
    missing = []
    for selector in study.needs:
        want = len(study.sizes["seeds"]) * (study.sizes["randoms"] if selector == "random" else 1)
        lacking = [b for b in study.sizes["budgets"] if len(points.get(selector, {}).get(b, [])) < want]
        if lacking:
            missing.append(f"{selector} at {', '.join(map(str, lacking))} %")
    if missing:
        text += f"\n**Not there yet** (all seeds or some): {'; '.join(missing)}.\n"
    return text


def frontier_page(study, found):
    networks, alps, points, selections = found
    net = study.net
    text = heading(study, f"{net['title']}: the frontier of 4- and 2-bit mixes") + sizes_line(study)
    tests = study.sizes["test_limit"] or 10000
    text += accuracy_table(networks)
    budgets = sorted(study.sizes["budgets"], reverse=True)
    error = 100 * math.sqrt(networks["w4a4"] * (1 - networks["w4a4"]) / tests)
    for what, index, scale, digits in (("Test accuracy %", 0, 100, 2), ("Training loss, second half of the run", 1, 1, 4)):
        note = (f"One standard error of an accuracy on {tests} images is {error:.2f} points; "
                "the images are the same in every cell." if index == 0 else "The same images in the same order in every cell.")
        text += f"\n## {what}\n\n{note} Mean over seeds (± the standard error by them), in the last column over budgets.\n\n"
        text += "| selector | " + " | ".join(f"{b} %" for b in budgets) + " | mean |\n"
        text += "| --- |" + " ---: |" * (len(budgets) + 1) + "\n"
        for selector, rows in points.items():
            cells = [[scale * r[index] for r in rows.get(b, [])] for b in budgets]
            whole = f"{mean([mean(c) for c in cells]):.{digits}f}" if all(cells) else ""
            text += f"| {selector} | " + " | ".join(cell(c, digits) for c in cells) + f" | {whole} |\n"
    text += verdict(study, networks, points)
    text += ("\n## What selection takes\n\nFrom the start of the process to the map of one budget; ALPS: to its gains, from which "
             "every budget's map takes less than a second.\n\n")
    text += "| selector | wall s | CPU s | peak MiB | data |\n| --- | ---: | ---: | ---: | --- |\n"
    for selector in points:
        run = selections[selector]
        text += (f"| {selector} | {run['seconds']:.2f} | {run['cpu_seconds']:.2f} | {run['peak_mib']:.0f} | {study.needs[selector]} |\n")
    if alps:
        text += "\n## ALPS, group by group\n\n| group | gain (loss) | wall s |\n| --- | ---: | ---: |\n"
    for row in alps["result"]["runs"] if alps else []:
        text += f"| {row['group']} | {row['gain']:.4f} | {row['seconds']:.1f} |\n"
    series = [(s, [(b, 100 * mean([r[0] for r in rows[b]])) for b in rows]) for s, rows in points.items()]
    losses = [(s, [(b, mean([r[1] for r in rows[b]])) for b in rows]) for s, rows in points.items()]
    return text, {"accuracy": svg(net["title"] + ": accuracy", "bit-MACs, % of all 4 bit", "test accuracy %", series),
                  "loss": svg(net["title"] + ": training loss", "bit-MACs, % of all 4 bit", "loss", losses)}


def ranks(values):
    order = sorted(range(len(values)), key=lambda i: values[i])
    result = [0.0] * len(values)
    at = 0
    while at < len(order):
        end = at
        while end < len(order) and values[order[end]] == values[order[at]]:
            end += 1
        for i in order[at:end]:
            result[i] = (at + end - 1) / 2
        at = end
    return result


def pearson(x, y):
    mx, my = mean(x), mean(y)
    top = sum((a - mx) * (b - my) for a, b in zip(x, y))
    return top / math.sqrt(sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y))


def slope(x, y):
    mx, my = mean(x), mean(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y)) / sum((a - mx) ** 2 for a in x)


def without(given, y):
    """What a line in `given` leaves of y."""
    by = slope(given, y)
    return [b - by * a for a, b in zip(given, y)]


def additivity_page(study, points):
    """points: predicted loss, measured loss, number of lowered groups."""
    x, y, count = zip(*points)
    text = heading(study, "Do losses of lowered groups add up?") + sizes_line(study)
    text += (f"{len(points)} random maps, from nearly all 4 bit to nearly all 2 bit; predicted: the reference's loss and the sum "
             "of ALPS's gains of the groups at 2 bit; measured: the loss of the mix by the same recipe.\n\n"
             f"Pearson {pearson(x, y):.3f}, Spearman {pearson(ranks(x), ranks(y)):.3f}. The number of lowered groups alone: "
             f"{pearson(count, y):.3f} and {pearson(ranks(count), ranks(y)):.3f}; what it leaves of both correlates by "
             f"{pearson(without(count, x), without(count, y)):.3f} (Pearson). The measured loss rises {slope(x, y):.2f} times as fast "
             "as the predicted one (1: additive).\n\n"
             "| predicted | measured |\n| ---: | ---: |\n" + "".join(f"| {a:.4f} | {b:.4f} |\n" for a, b, _ in sorted(points)))
    return text, {"loss": svg("Additivity", "predicted loss", "measured loss", [("maps", list(zip(x, y)))], lines=False)}


def times_page(study, found):
    costs, rows, whole = found
    text = heading(study, f"{study.net['title']}: mixes in measured time") + sizes_line(study)
    text += ("`mpqrun bench` and `profile`, one image, one thread, the least time of each run (other work shares the machine).\n\n"
             "| network | ms |\n| --- | ---: |\n" + "".join(f"| {name} | {ms:.3f} |\n" for name, ms in whole.items()))
    sums = {bits: sum(cost.values()) for bits, cost in costs.items()}
    lowest = sum(min(costs[4][name], costs[2].get(name, costs[4][name])) for name in costs[4])
    text += (f"\n## The knapsack in time\n\nLayer by layer, all at 8 bit take {sums[8] / 1e6:.3f} ms, all at 4 bit {sums[4] / 1e6:.3f}, all "
             f"at 2 bit {sums[2] / 1e6:.3f}. With the faster of 4 and 2 bit in every layer it would be {lowest / 1e6:.3f} ms, "
             f"{100 * lowest / sums[4]:.1f} % of all at 4 bit: no budget of time below that can be met, whatever the selector, and a budget of "
             "100 % leaves every layer at 4 bit (its gain is at least 0, its time the same). A budget in bit-MACs lowers layers "
             "all the same.\n\n| layer | 8 bit µs | 4 bit µs | 2 bit µs |\n| --- | ---: | ---: | ---: |\n")
    text += "".join(f"| {name} | {costs[8].get(name, 0) / 1e3:.1f} | {cost / 1e3:.1f} | {costs[2].get(name, 0) / 1e3:.1f} |\n"
                    for name, cost in costs[4].items())
    if not rows:
        return text + "\nNo mixes yet.\n", {}
    text += ("\n## The mixes\n\n| selector | bit-MACs % | predicted ms | measured ms | test accuracy % |\n"
             "| --- | ---: | ---: | ---: | ---: |\n")
    text += "".join(f"| {s} | {b} | {p:.3f} | {m:.3f} | {a:.2f} |\n" for s, b, p, m, a, _ in rows)
    names = dict.fromkeys(row[0] for row in rows)
    series = [(name, [(row[3], row[4]) for row in rows if row[0] == name]) for name in names]
    return text, {"plane": svg("Accuracy and time", "ms an image, one thread", "test accuracy %", series, lines=False)}
