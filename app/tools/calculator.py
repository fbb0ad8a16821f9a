"""Tool server that calculates: one tool, `calculate`, by arithmetic on exact fractions. `python -m` starts it.

Numbers, + - * / ** and brackets; nothing else is read, so that an expression is no program.
"""

import ast
from collections.abc import Callable
from fractions import Fraction

from likely.app.tools.serving import serve

LARGEST = 4096  # bits of a number that comes of it

OPERATORS: dict[type[ast.AST], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}


def calculate(expression: str) -> str:
    """The value of an arithmetic expression, such as (3 + 4) * 5 / 2 or 2 ** 10."""
    try:
        value = _value(ast.parse(expression.strip().replace("^", "**"), mode="eval").body)
    except ZeroDivisionError:
        raise ValueError("this divides by zero") from None
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError("numbers, + - * / ** and brackets are read here") from None
    if value.denominator == 1:
        return str(value.numerator)
    return f"{value} = {float(value):.12g}" if abs(value) < 1e300 else str(value)


def _value(node: ast.AST) -> Fraction:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            value = Fraction(str(number))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value = -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            value = _value(operand)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            base, power = _value(left), _value(right)
            if power.denominator != 1 or abs(power) * max(_bits(base), 1) > LARGEST:
                raise ValueError(f"powers are whole, and what comes of them has at most {LARGEST} bits")
            value = base ** int(power)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            value = OPERATORS[type(op)](_value(left), _value(right))
        case _:
            raise ValueError("numbers, + - * / ** and brackets are read here")
    if _bits(value) > LARGEST:
        raise ValueError(f"a number has at most {LARGEST} bits here")
    return value


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def main() -> None:
    serve("calculator", calculate)


if __name__ == "__main__":
    main()
