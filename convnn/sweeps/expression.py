"""Arithmetic in a sweep file: text that begins with "=", such as "= N ** 2"; it is parsed here and never run as code.

    expression = sum
    sum        = product { ("+" | "-") product }
    product    = sign { ("*" | "/" | "//" | "%") sign }
    sign       = ("+" | "-") sign | power
    power      = atom [ "**" sign ]
    atom       = number | name | function "(" sum { "," sum } ")" | "(" sum ")"
    name       = a variable, or an option: K, layer.K
    function   = "min" | "max" | "round" | "int"

Operators bind as in Python. The length, the depth and the size of every number are bounded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, NoReturn

Number = int | float
MAX_LENGTH, MAX_DEPTH = 500, 40
MAX_BITS = 63  # of a whole number, as TOML has them
FUNCTIONS: dict[str, tuple[Callable[..., Number], int | None]] = {  # and the number of arguments, None: at least one
    "min": (min, None),
    "max": (max, None),
    "round": (round, 1),
    "int": (int, 1),
}
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?)
      | (?P<operator>\*\*|//|[-+*/%(),])
    )""",
    re.VERBOSE | re.ASCII,
)


class ExpressionError(ValueError):
    """An expression that cannot be parsed, or that has no value for these numbers."""


@dataclass(frozen=True)
class Expression:
    """A parsed expression; `names` are the variables and options that it needs."""

    text: str
    names: frozenset[str]
    _node: Node

    def value(self, values: Mapping[str, Number]) -> Number:
        """Return the value for these values of its names. Raises ExpressionError where there is none."""
        try:
            return _bounded(_evaluate(self._node, values))
        except ZeroDivisionError:
            raise ExpressionError("division by zero") from None
        except OverflowError:
            raise ExpressionError("the result is too large") from None


class Call(NamedTuple):
    """An operator or a function and its operands."""

    name: str
    operands: tuple[Node, ...]


Node = Number | str | Call  # a number, a name, a call


class _Token(NamedTuple):
    kind: Literal["number", "name", "operator", "end"]
    text: str
    column: int  # from 1


def parse_expression(text: str) -> Expression:
    """Return the expression that a text, with or without its "=", stands for. Raises ExpressionError."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"an expression has at most {MAX_LENGTH} characters, this one has {len(text)}")
    parser = _Parser(text.removeprefix("="), offset=int(text.startswith("=")))
    node = parser.parse()
    return Expression(text, frozenset(parser.names), node)


class _Parser:
    """Parses one text by recursive descent: a method for each rule of the grammar."""

    def __init__(self, text: str, offset: int) -> None:
        self.text, self.offset = text, offset
        self.names: set[str] = set()
        self.tokens = list(self._tokenize())
        self.index = self.depth = 0

    def parse(self) -> Node:
        node = self._sum()
        if self.next.kind != "end":
            self._fail(f"unexpected {self.next.text!r}")
        return node

    def _sum(self) -> Node:
        return self._chain(self._product, "+", "-")

    def _product(self) -> Node:
        return self._chain(self._sign, "*", "/", "//", "%")

    def _chain(self, rule: Callable[[], Node], *operators: str) -> Node:
        """Parse operands of a rule, joined from the left."""
        self._descend()
        node = rule()
        while self.next.kind == "operator" and self.next.text in operators:
            operator = self._take().text
            node = Call(operator, (node, rule()))
        self.depth -= 1
        return node

    def _sign(self) -> Node:
        if self.next.kind == "operator" and self.next.text in ("+", "-"):
            self._descend()
            operator = self._take().text
            operand = self._sign()
            self.depth -= 1
            return Call("negative", (operand,)) if operator == "-" else operand
        return self._power()

    def _power(self) -> Node:
        base = self._atom()
        if self.next.text != "**":
            return base
        self._take()
        self._descend()
        exponent = self._sign()
        self.depth -= 1
        return Call("**", (base, exponent))

    def _atom(self) -> Node:
        token = self._take()
        if token.kind == "number":
            return self._number(token)
        if token.kind == "name":
            if self.next.text == "(":
                return self._call(token)
            self.names.add(token.text)
            return token.text
        if token.text == "(":
            node = self._sum()
            self._close()
            return node
        return self._fail("expected a number, a name or (", token)

    def _call(self, token: _Token) -> Node:
        if token.text not in FUNCTIONS:
            self._fail(f"there is no function {token.text}; there are {', '.join(FUNCTIONS)}", token)
        self._take()
        operands = [self._sum()]
        while self.next.text == ",":
            self._take()
            operands.append(self._sum())
        self._close()
        _, count = FUNCTIONS[token.text]
        if count is not None and len(operands) != count:
            self._fail(f"{token.text} takes {count} number, not {len(operands)}", token)
        return Call(token.text, tuple(operands))

    def _number(self, token: _Token) -> Number:
        if token.text.isdigit():
            if len(token.text) > 19:
                self._fail("a number has too many digits", token)
            return int(token.text)
        return float(token.text)

    def _descend(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self._fail(f"nested more than {MAX_DEPTH} deep")

    def _tokenize(self) -> Iterator[_Token]:
        position, text = 0, self.text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                rest = text[position:].lstrip()
                column = len(text) - len(rest) + 1 + self.offset
                raise ExpressionError(f"column {column}: unexpected {rest[:1]!r}")
            kind = match.lastgroup
            assert kind in ("number", "name", "operator")
            yield _Token(kind, match[kind], match.start(kind) + 1 + self.offset)  # type: ignore[arg-type]
            position = match.end()
        yield _Token("end", "", len(text) + 1 + self.offset)

    @property
    def next(self) -> _Token:
        return self.tokens[self.index]

    def _take(self) -> _Token:
        token = self.next
        self.index = min(self.index + 1, len(self.tokens) - 1)
        return token

    def _close(self) -> None:
        if self.next.text != ")":
            self._fail("expected )")
        self._take()

    def _fail(self, message: str, token: _Token | None = None) -> NoReturn:
        raise ExpressionError(f"column {(token or self.next).column}: {message}")


def _evaluate(node: Node, values: Mapping[str, Number]) -> Number:
    if isinstance(node, str):
        return values[node]
    if not isinstance(node, Call):
        return node
    operands = [_bounded(_evaluate(operand, values)) for operand in node.operands]
    if node.name in FUNCTIONS:
        function, _ = FUNCTIONS[node.name]
        return function(*operands)
    if node.name == "negative":
        return -operands[0]
    return _operate(node.name, *operands)


def _operate(operator: str, a: Number, b: Number) -> Number:
    match operator:
        case "+":
            return a + b
        case "-":
            return a - b
        case "*":
            return a * b
        case "/":
            return a / b
        case "//":
            return a // b
        case "%":
            return a % b
    return _power(a, b)


def _power(base: Number, exponent: Number) -> Number:
    """Return base ** exponent; a whole number too large is refused before it is computed."""
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > 2 * MAX_BITS:
        if exponent > 0 and abs(base) > 1:
            raise ExpressionError("the result is too large")
        base = float(base)
    if base < 0 and exponent != int(exponent):
        raise ExpressionError("a negative number has no such power")
    result: Number = base**exponent
    return result


def _bounded(value: Number) -> Number:
    """Return a value that is finite and, if whole, has at most 63 bits. Raises ExpressionError otherwise."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ExpressionError("the result is not finite")
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise ExpressionError("the result is too large")
    return value
