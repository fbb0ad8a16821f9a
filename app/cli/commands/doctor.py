"""`likely doctor`: what this machine offers, and how to mend what is slow."""

import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from likely.app.words.units import bits, json_line
from likely.engine.base.machine.execution import PATHS

if TYPE_CHECKING:
    from likely.engine.weights.sources.model_info import ModelInfo

MEASURED = 10**9  # parameters of a model that is expanded to be compared


def kernels() -> str:
    """The state of the Metal kernels on this chip, in a line."""
    from likely.metal.device import device
    from likely.metal.tuning_cache import load

    if not device().metal:
        return "reference (no Metal here)"
    record = load()
    if record is None or not (record.verdicts or record.switched_off):
        return "not tested on this chip yet: loading a model does it, once"
    wins = [faster for name, faster in record.faster.items() if not name.startswith("decode compiled")]
    choice = f"ours taken in {sum(wins)} of {len(wins)} measured cases, stock elsewhere"
    if not record.switched_off:
        return f"all {len(record.verdicts)} comparisons pass; {choice}"
    off = "; ".join(f"{variant} is off: {why}" for variant, why in record.switched_off.items())
    return f"{off}; {choice}; to test again: likely doctor --retest"


def native() -> tuple[str, str]:
    """Whether weights stay packed here, and which of the models that are here are read otherwise; how far off they are.

    "" for the second where no model on this machine stays packed.
    """
    from likely.engine.weights.sources import store
    from likely.engine.weights.sources.checkpoint import GPU, not_native, on_gpu
    from likely.metal import packed

    if on_gpu():
        return f"off: {GPU}", ""
    library = packed.load()
    if library is None or not packed.available():
        return "off: " + ("no kernels for this processor" if library is None else f"LIKELY_PACKED={packed.OFF}"), ""
    reasons = {info: not_native(info) for info in store.list()}
    refused = "".join(f"; {info.name} by the graph: {reason}" for info, reason in reasons.items() if reason is not None)
    usable = [info for info, reason in reasons.items() if reason is None]
    line = f"GGUF files and folders that mlx quantised stay packed ({library.kernels}){refused}"
    return line, _rounding(min(usable, key=lambda info: info.parameters)) if usable else ""


def _rounding(info: "ModelInfo") -> str:
    """Cost of rounding activations, measured on a model."""
    from likely.engine.base.errors import CheckpointError
    from likely.engine.measure.evaluate.scoring import activation_rounding
    from likely.engine.weights.sources.checkpoint import load
    from likely.metal.packed import EIGHT, FULL

    if info.parameters > MEASURED:
        return f"not measured: {info.name} is large"
    try:
        roundings = activation_rounding.measure(load(info.path))
    except CheckpointError as error:
        return f"not measured: {error}"
    uses = {FULL: "what is measured: ", EIGHT: "--activation-bits 8: "}
    of = "; ".join(
        f"{uses.get(one.bits, 'what is drawn: ')}KL {bits(one.kl):.1e} bits a token, at most {bits(one.largest):.1e}, "
        f"log p off by {bits(one.off):.1e}, at most {bits(one.most_off):.1e}, another most likely token in {one.flips} "
        f"of {one.tokens}"
        for one in roundings
    )
    return f"to float32 activations ({info.name}): {of}"


def _compile(device: str, compiles: bool) -> str:
    """Whether the steps of a model are compiled, and why not."""
    if compiles:
        return "mx.compile for the models whose attention was measured to cost no more in a compiled step here"
    return "off by LIKELY_COMPILE=0" if device == "metal" else f"off: not known to pay on {device}"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One object.")
@click.option(
    "--retest", is_flag=True, help="Forget what is known of the Metal kernels: the next model tests them again."
)
def command(as_json: bool, retest: bool) -> None:
    """Say what was found here (device, BLAS, threads, memory, speed, kernels) and how to mend what is slow."""
    from likely.app.results import preflight

    if retest:
        from likely.metal.tuning_cache import forget

        forget()
    from likely.engine.base.files.home import home
    from likely.engine.base.machine import hardware

    host = hardware.inspect()
    gflops, bandwidth = hardware.gflops(), hardware.bandwidth()
    notes = hardware.advice(host, gflops)
    preflights = preflight.checks(preflight.inspect())
    folder = home()
    free = shutil.disk_usage(folder if folder.exists() else folder.anchor).free
    state, (decoding, rounding) = kernels(), native()
    if as_json:
        facts = asdict(host) | {"preflight": [asdict(check) for check in preflights]}
        facts |= {"gflops": gflops, "bandwidth_gb_s": bandwidth, "advice": notes}
        facts |= {"store": str(folder), "store_free": free, "kernels": state, "native": decoding, "rounding": rounding}
        click.echo(json_line(facts | {"paths": [asdict(path) for path in PATHS] if rounding else []}))
        return
    threads = "its own choice" if host.threads is None else f"{host.threads} of {host.cores} cores"
    rows = {
        "system": host.system,
        "device": f"{host.device}: {host.chip}",
        "memory": f"{host.memory / 2**30:.1f} GiB",
        "blas": f"{host.blas} ({host.blas_path})",
        "threads": threads,
        "one-row path": "sgemv" if host.one_row else "the BLAS's own",
        "compile": _compile(host.device, host.compiles),
        "matmul": f"{gflops:.0f} GFLOP/s (bounds reading a prompt)",
        "weights": f"{bandwidth:.1f} GB/s (bounds drawing tokens)",
        "kernels": state,
        "native": decoding,
        **({"rounding": rounding} if rounding else {}),
        "models": f"{folder} ({free / 1e9:.0f} GB free)",
        "two Macs": "mlx.launch --backend ring --hostfile hosts.json -- likely run ... (docs/distributed.md)",
        "versions": ", ".join(f"{name} {number}" for name, number in host.versions.items()),
    }
    for check in preflights:
        click.echo(f"{check.name:<13} {'ok' if check.fine else 'WRONG'}: {check.line}")
    for name, value in rows.items():
        click.echo(f"{name:<13} {value}")
    if rounding:
        click.echo("\nwhat a model that stays packed does natively, and what through mlx's graph:")
        width = max(len(path.use) for path in PATHS)
        for path in PATHS:
            click.echo(f"{path.path:<7} {path.use:<{width}}  {path.why}")
    for note in notes:
        click.echo(f"\nslow: {note}")
    if not notes:
        click.echo("\nnothing to mend")
