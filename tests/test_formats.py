"""The table of formats in the README says what the build says; when it is stale, the new text is printed here."""

import pathlib
import re

import pytest

import narrowcast as nc
import oracle

README = pathlib.Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"<!-- formats -->\n(.*?)<!-- /formats -->", re.DOTALL)


def power(value):
    """A value as the README writes it: 2^-9 for small powers of two, else decimal."""
    mantissa, exponent = float(value).hex().split("p")
    if mantissa in ("0x1.0000000000000", "0x0.0000000000001") and abs(int(exponent)) > 4:
        return f"2^{int(exponent) - (52 if mantissa.startswith('0x0') else 0)}"
    return f"{float(value):.6g}"


def table():
    """The text between the markers."""
    lines = [
        "| format | sign.exponent.fraction | bias | largest | smallest normal | smallest | Inf | NaN | -0 |",
        "|" + " --- |" * 9,
    ]
    for row in nc.formats():
        if not row.is_float or oracle.SPECS[row.name].get("dummy"):
            continue
        info = nc.finfo(row)
        nan = " / ".join(f"{code:X}" for code in info.nan_codes) or "none"
        cells = [
            f"`{row.name}`",
            f"{row.sign_bits}.{row.exponent_bits}.{row.mantissa_bits}",
            str(row.bias),
            power(info.max),
            power(info.smallest_normal),
            power(info.smallest_subnormal),
            f"{info.inf_code:X}" if row.has_inf else "none",
            nan,
            "yes" if row.has_negative_zero else "no",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def test_the_readme_is_current():
    if not README.is_file():
        pytest.skip("no README here: the tests run from an installed copy")
    found = BLOCK.search(README.read_text(encoding="utf-8"))
    expected = table()
    assert found, f"README.md has no block between <!-- formats --> and <!-- /formats -->; it should hold:\n{expected}"
    assert found[1].strip() == expected.strip(), f"the table in README.md is stale; it should be:\n{expected}"
