"""NVIDIA GPUs, by NVML (package nvidia-ml-py), in base units."""

import math
from collections.abc import Callable
from typing import Any

import pynvml
import structlog

from libs.common.ports import GpuReading

log = structlog.get_logger()


class NvmlDevice:
    """The GPUs that the driver of this machine shows, as the `Device` port says."""

    def __init__(self, handles: list[Any]) -> None:
        self._handles = handles

    @classmethod
    def open(cls) -> "NvmlDevice | None":
        """Return the GPUs of this machine; None, with one log line, where no driver or GPU is."""
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
            handles = [pynvml.nvmlDeviceGetHandleByIndex(gpu) for gpu in range(count)]
        except pynvml.NVMLError as error:
            log.info("no GPU driver, going on without", reason=str(error))
            return None
        if not handles:
            log.info("a GPU driver without a GPU, going on without")
            return None
        log.info("reading GPUs", count=count)
        return cls(handles)

    def read(self) -> list[GpuReading]:
        """Return one reading of each GPU; what a GPU cannot tell, or a lost GPU, is NaN."""
        return [self._read(gpu, handle) for gpu, handle in enumerate(self._handles)]

    def _read(self, gpu: int, handle: Any) -> GpuReading:
        def ask(question: Callable[..., Any], *more: Any) -> Any:
            try:
                return question(handle, *more)
            except pynvml.NVMLError:
                return None

        def number(answer: Any, unit: float) -> float:
            return math.nan if answer is None else answer * unit

        utilization = ask(pynvml.nvmlDeviceGetUtilizationRates)
        memory = ask(pynvml.nvmlDeviceGetMemoryInfo)
        celsius = ask(pynvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU)
        return GpuReading(
            gpu,
            utilization=number(utilization and utilization.gpu, 0.01),
            memory_used_bytes=number(memory and memory.used, 1.0),
            memory_total_bytes=number(memory and memory.total, 1.0),
            power_w=number(ask(pynvml.nvmlDeviceGetPowerUsage), 1e-3),
            energy_j=number(ask(pynvml.nvmlDeviceGetTotalEnergyConsumption), 1e-3),
            temperature_c=number(celsius, 1.0),
        )
