"""One kernel of one Metal text, ready to run: its parameters, its library, its dispatch."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from likely.metal.simulator import compiler, signature
from likely.metal.simulator import strict as gate
from likely.metal.simulator.launch import KernelArgument, launch, launch_checked
from likely.metal.simulator.report import DispatchReport, KernelFault
from likely.metal.simulator.rewrite import rewrite


class Program:
    """A kernel, compiled when it is first needed.

    `call` is the kernel as C++ would name it, template arguments included: `sdpa_vector<float, 64, 64>`. `constants`
    are function constants by index; one that is left out is 0. `included` is the text of headers in which the kernel
    may be defined.
    """

    def __init__(
        self,
        source: str,
        call: str,
        *,
        checked: bool,
        strict: bool = False,
        constants: Mapping[int, str] | None = None,
        label: str = "kernel.metal",
        included: str = "",
    ):
        self.source, self.call, self.checked, self.strict = source, call, checked, strict
        self.constants, self.label, self.included = dict(constants or {}), label, included
        self.name = call.split("<")[0].strip()

    @cached_property
    def parameters(self) -> list[signature.KernelParameter]:
        """The kernel's parameters, in order."""
        return signature.parameters(self.source + self.included, self.name)

    @cached_property
    def path(self) -> Path:
        """The library. Raises KernelError where the text does not compile, StrictError where the gate refuses it."""
        if self.strict:
            gate.verify(self.source, self.call, self.label)
        identity = (self.source, self.included, self.call, self.label, repr(sorted(self.constants.items())))
        return compiler.library(self.name[:60], self.checked, identity, self._translated)

    def _translated(self) -> str:
        """The C++ text."""
        values = "".join(
            f"template <> struct msl_function_constant<{i}> {{ static constexpr auto value = {value}; }};\n"
            for i, value in self.constants.items()
        )
        text = f'{values}#line 1 "{self.label}"\n' + rewrite(self.source)
        return text + signature.entry(self.call, self.parameters)

    @cached_property
    def _lines(self) -> dict[str, str]:
        """The text of each `file:line` of the source."""
        lines, file, number = {}, self.label, 0
        for text in self.source.splitlines():
            number += 1
            if match := re.match(r'\s*#\s*line\s+(\d+)(?:\s+"([^"]*)")?', text):
                file, number = match[2] or file, int(match[1]) - 1
            else:
                lines[f"{file}:{number}"] = text.strip()
        return lines

    def run(
        self, buffers: Sequence[KernelArgument], grid: Sequence[int], threadgroup: Sequence[int]
    ) -> DispatchReport | None:
        """Dispatch it; a report when it is a checked program.

        Raises KernelError for a launch that Metal would refuse, KernelFault for what a checked run finds.
        """
        if not self.checked:
            launch(self.path, buffers, grid, threadgroup)
            return None
        report = launch_checked(self.label.removesuffix(".metal"), self.path, buffers, grid, threadgroup)
        report = replace(report, faults=tuple(replace(f, code=self._lines.get(f.place, "")) for f in report.faults))
        if report.faults:
            raise KernelFault(report)
        return report
