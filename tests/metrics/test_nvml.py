"""The NVML adapter against a stand-in of NVIDIA's C library, behind the real Python package.

The stand-in is loaded first; since the dynamic loader goes by the name within a library, the
package then gets it, too, when it asks for `libnvidia-ml.so.1`. Each case runs in a process of its
own.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from libs.common.ports import GpuReading
from tests.conftest import absent

LIBRARY = r"""
typedef unsigned int u; typedef unsigned long long ull; typedef void *dev;
enum { OK = 0, NOT_SUPPORTED = 3, DRIVER_NOT_LOADED = 9, LOST = 15 };
int nvmlInitWithFlags(u f) { return INIT; }
int nvmlInit_v2(void) { return INIT; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int e) { return e == DRIVER_NOT_LOADED ? "Driver Not Loaded" : "?"; }
int nvmlDeviceGetCount_v2(u *n) { *n = COUNT; return OK; }
int nvmlDeviceGetHandleByIndex_v2(u i, dev *d) { *d = (dev)(unsigned long)(i + 1); return OK; }
static int lost(dev d) { return (unsigned long)d == 3; }
int nvmlDeviceGetUtilizationRates(dev d, u *r) {
  if (lost(d)) return LOST;
  r[0] = 42; r[1] = 7; return OK; }
int nvmlDeviceGetMemoryInfo(dev d, ull *m) {
  if (lost(d)) return LOST;
  m[0] = 24ull << 30; m[1] = 20ull << 30; m[2] = 4ull << 30; return OK; }
int nvmlDeviceGetPowerUsage(dev d, u *mw) {
  if (lost(d)) return LOST;
  *mw = 71500; return OK; }
int nvmlDeviceGetTotalEnergyConsumption(dev d, ull *mj) {
  if ((unsigned long)d == 2) return NOT_SUPPORTED;
  if (lost(d)) return LOST;
  *mj = 9000000000000ull; return OK; }
int nvmlDeviceGetTemperature(dev d, u which, u *c) {
  if (lost(d)) return LOST;
  *c = which == 0 ? 65 : 999; return OK; }
"""
READ = """
import ctypes, json, sys
if len(sys.argv) > 1:
    ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)
from libs.common.adapters.nvml import NvmlDevice
device = NvmlDevice.open()
print(json.dumps(None if device is None else device.read()))
"""


def read(folder: Path, *, count: int = 3, init: str = "OK", library: bool = True) -> list[str]:
    """Run the adapter; its lines, the last of which is what it read."""
    arguments = []
    if library:
        compiler = shutil.which("cc")
        if compiler is None:
            absent("no C compiler, which the stand-in of NVML needs")
            raise AssertionError
        source, built = folder / "nvml.c", folder / "stand-in.so"
        source.write_text(LIBRARY)
        flags = ["-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1", f"-DCOUNT={count}"]
        subprocess.run([compiler, *flags, f"-DINIT={init}", "-o", built, source], check=True)
        arguments = [str(built)]
    run = subprocess.run(
        [sys.executable, "-c", READ, *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.splitlines()


def test_readings_are_in_base_units_and_nan_where_a_gpu_says_nothing(tmp_path: Path) -> None:
    whole, some, lost = (GpuReading(*values) for values in json.loads(read(tmp_path)[-1]))
    assert whole == GpuReading(0, 0.42, 4 << 30, 24 << 30, 71.5, 9e9, 65)
    assert some[:5] == whole._replace(gpu=1)[:5]
    assert some.energy_j != some.energy_j, "NaN"
    assert lost.gpu == 2
    assert all(value != value for value in lost[1:])


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ({"init": "DRIVER_NOT_LOADED"}, "Driver Not Loaded"),
        ({"count": 0}, "without a GPU"),
    ],
)
def test_without_a_gpu_there_is_one_line_and_nothing_more(
    tmp_path: Path, case: dict, said: str
) -> None:
    line, result = read(tmp_path, **case)
    assert said in line
    assert result == "null"


def test_without_a_driver_there_is_one_line_and_nothing_more(tmp_path: Path) -> None:
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has a driver")
    line, result = read(tmp_path, library=False)
    assert "no GPU driver, going on without" in line
    assert result == "null"
