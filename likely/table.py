"""Table of named columns, as a text, as HTML, for pandas, and for whatever reads Arrow. Plain Python and numpy.

Knows nothing of models. Pandas and pyarrow are imported when they are asked for.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from likely.engine.base.errors import ParameterError
from likely.notebook import table

SHOWN = 20  # rows of a text or a page


class Table:
    """Columns of one length, lists or arrays, by name. `table["p"]` is a column, `table[0]` a row as a dict."""

    def __init__(self, columns: Mapping[str, Any], caption: str = "", bar: str = "") -> None:
        """`caption` stands over it; `bar` names the column, 0 to 1, that a page shows as bars."""
        self.columns, self.caption, self.bar = dict(columns), caption, bar

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(zip(self.columns, row, strict=True)) for row in zip(*self.columns.values(), strict=True))

    def __getitem__(self, key: str | int) -> Any:
        if isinstance(key, str):
            if key not in self.columns:
                raise ParameterError(f"no column {key!r}: this table has {', '.join(self.columns)}")
            return self.columns[key]
        return {name: column[key] for name, column in self.columns.items()}

    def to_pandas(self) -> Any:
        """A pandas DataFrame. ParameterError where pandas is not installed."""
        try:
            import pandas
        except ImportError:
            raise ParameterError("to_pandas() needs pandas, which is not installed: pip install pandas") from None
        return pandas.DataFrame(self.columns)

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """The Arrow stream (PyCapsule interface) that polars and duckdb read. ParameterError without pyarrow."""
        try:
            import pyarrow
        except ImportError:
            raise ParameterError(
                "a table for Arrow needs pyarrow, which is not installed: pip install pyarrow"
            ) from None
        return pyarrow.table(self.columns).__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        cells = [list(self.columns), *([_cell(value) for value in row.values()] for row in self._first())]
        if not self.columns:
            return self.caption or "(an empty table)"
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        right = [not isinstance(next(iter(column), 0), str) for column in self.columns.values()]
        lines = [
            "  ".join(
                cell.rjust(width) if number else cell.ljust(width)
                for cell, width, number in zip(row, widths, right, strict=True)
            ).rstrip()
            for row in cells
        ]
        more = len(self) - len(cells) + 1
        return "\n".join([*([self.caption] if self.caption else []), *lines, *([f"… {more} more"] if more > 0 else [])])

    def _repr_html_(self) -> str:
        rows = [[_cell(value) for value in row.values()] for row in self._first()]
        bars = [float(value) for value in self.columns[self.bar][:SHOWN]] if self.bar else None
        return table(list(self.columns), rows, self.caption, bars, len(self) - len(rows))

    def _first(self) -> list[dict[str, Any]]:
        return [self[i] for i in range(min(len(self), SHOWN))]


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return repr(value)[1:-1]
    return f"{value:.4g}" if hasattr(value, "__float__") and not hasattr(value, "__index__") else str(value)
