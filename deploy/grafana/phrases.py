"""The turns of PromQL that more than one panel uses."""

# Grafana's own window: at least four scrapes, so a rate has something to work on 8 s after a start.
WINDOW = "$__rate_interval"
MODELS = 'model=~"$model"'
NODES = 'node=~"$node"'


def rate(counter: str, by: str = "", where: str = "", window: str = WINDOW) -> str:
    """Return the growth per second, summed over everything but the labels `by`."""
    return f"sum{_by(by)} (rate({counter}{_where(where)}[{window}]))"


def increase(counter: str, by: str = "", where: str = "", window: str = "5m") -> str:
    """Return the growth within the window, summed over everything but the labels `by`."""
    return f"sum{_by(by)} (increase({counter}{_where(where)}[{window}]))"


def ratio(part: str, whole: str) -> str:
    """Return part / whole, and nothing (a gap, not NaN) where the whole is zero."""
    return f"{part} / ({whole} > 0)"


def quantile(q: float, histogram: str, by: str = "", where: str = "", window: str = "1m") -> str:
    """Return a quantile; over a minute, as the p99 of few observations is just their maximum.

    It is NaN, drawn as a gap, while there are no observations; `worst` leaves that out.
    """
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({q}, {rate(f'{histogram}_bucket', labels, where, window)})"


def worst(expr: str) -> str:
    """Return the largest of several values that are never negative, whether or not some are NaN."""
    return f"max({expr} >= 0)"


def attainment(window: str = "5m") -> str:
    """Return, for each chosen model, ok / all of the requests that ended within the window."""
    ended = increase("plimsoll_requests_total", "model", MODELS, window)
    ok = increase("plimsoll_requests_total", "model", f'{MODELS}, status="ok"', window)
    # A model of which nothing has ever been ok has no such series, and is to show as 0.
    return ratio(f"({ok} or 0 * {ended})", ended)


def busy(kind: str = "", by: str = "", where: str = "") -> str:
    """Return the part of the GPUs' time in kernels for work that was completed.

    Over a minute: it is counted when a batch ends, and batches may take seconds. Divided by the
    time that the GPUs report themselves, so that it is right from the first seconds on.
    """
    of_kind = ", ".join(filter(None, (where, f'kind="{kind}"' if kind else "")))
    kernels = rate("plimsoll_gpu_busy_seconds_total", by, of_kind, "1m")
    return ratio(kernels, rate("plimsoll_gpu_seconds_total", by, where, "1m"))


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""


def _where(matchers: str) -> str:
    return f"{{{matchers}}}" if matchers else ""
