"""What a page of results says about where it was measured, for peers.py and roofline.py."""
import os
import platform
import subprocess
import time


def cpu_model():
    with open("/proc/cpuinfo", encoding="ascii") as info:
        lines = info.read().split("\n\n")[0].splitlines()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    isa = [flag for flag in ("avx2", "avx512_vnni", "gfni", "amx_int8") if flag in fields["flags"].split()]
    return f"{fields['model name']} (family {fields['cpu family']}, model {fields['model']}; {', '.join(isa)})"


def facts():
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {"date": time.strftime("%Y-%m-%d"), "commit": git.stdout.strip() or "unknown", "cpu": cpu_model(),
            "cores": len(os.sched_getaffinity(0)), "system": f"{platform.system()} {platform.release().split('-')[0]}"}
