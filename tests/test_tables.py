"""One table in every format."""

from __future__ import annotations

import csv
import io

from rich.cells import cell_len

from convnn.tables import Column, Table, blocks, csv_text, latex, lines, markdown

NAMES = [["20261122-150000-vgg11-Branching-3f2a", "done", "81.93"], ['a,"b"|c_d%&#', "× 漢字", "9"]]
TABLE = Table([Column("name"), Column("status"), Column("best", right=True)], NAMES)


def test_text_is_aligned_numbers_to_the_right():
    written, hidden = lines(TABLE)
    assert hidden == [] and written[0].startswith("name  ") and len({cell_len(line) for line in written}) == 1
    assert written[1].endswith("81.93") and written[2].endswith("    9")


def test_a_narrow_terminal_shortens_names_in_the_middle_before_it_leaves_columns_out():
    written, hidden = lines(TABLE, 40)
    assert hidden == [] and all(cell_len(line) <= 40 for line in written)
    assert written[1].startswith("2026") and "…" in written[1] and "3f2a" in written[1]
    written, hidden = lines(TABLE, 20)
    assert hidden == ["status", "best"] and all(cell_len(line) <= 20 for line in written)


def test_what_has_no_room_beside_goes_on_below_with_the_columns_that_tell_the_rows_apart():
    wide = Table(
        [Column("option"), *(Column(name, right=True) for name in "ABCDE")], [["lr", *["0.125"] * 5]], key_columns=1
    )
    written, hidden = blocks(wide, 22)
    assert hidden == [] and [block[0].split() for block in written] == [
        ["option", *"AB"],
        ["option", *"CD"],
        ["option", "E"],
    ]
    assert written[-1][1].split() == ["lr", "0.125"]
    assert blocks(wide, 9)[1] == list("ABCDE")  # no room even for one
    wide.rows[0][2] = "0" * 40
    written, hidden = blocks(wide, 22)
    assert len(written) == 1 and hidden == list("BCDE")  # no block of the key columns alone


def test_the_room_of_a_column_that_was_left_out_is_given_back():
    name = "20261122-150000-vgg11-Branching-3f2a"
    written, hidden = lines(Table([Column("name"), Column("similarity_type")], [[name, "Loc_Col"]]), 30)
    assert hidden == ["similarity_type"] and cell_len(written[1]) == 30


def test_every_writer_escapes_control_characters():
    hostile = Table([Column("na\x1b[2Jme")], [["a\nb\x9b\u202e"]])
    for text in (csv_text(hostile), markdown(hostile), latex(hostile), "\n".join(lines(hostile)[0])):
        assert text.replace("\n", "").isprintable() and "202e" in text and text.count("\n") < 8


def test_csv_is_read_back_as_it_was():
    assert list(csv.reader(io.StringIO(csv_text(TABLE)))) == [["name", "status", "best"], *NAMES]


def test_markdown_and_latex_escape_what_they_would_take_for_theirs():
    assert markdown(TABLE).splitlines()[1] == "|---|---|---:|"
    assert r'a,"b"\|c\_d%&#' in markdown(TABLE)
    assert r'a,"b"$|$c\_d\%\&\#' in latex(TABLE) and r"\begin{tabular}{llr}" in latex(TABLE)


def test_an_empty_table_is_its_header():
    assert lines(Table(TABLE.columns, []))[0] == ["name  status  best"]


def test_a_table_that_is_too_wide_first_does_without_what_its_cells_need_not_tell():
    columns = [Column("name", removable=r"\d{8}-"), Column("value", right=True)]
    rows = [["20260101-first-1a2b", "1"], ["20260102-second-3c4d", "2"]]
    assert lines(Table(columns, rows), 40)[0][1].startswith("20260101-first")
    narrow, hidden = lines(Table(columns, rows), 24)
    assert [line.split() for line in narrow[1:]] == [["first-1a2b", "1"], ["second-3c4d", "2"]] and not hidden
    equal = [["20260101-same", "1"], ["20260102-same", "2"]]
    assert "20260101" in lines(Table(columns, equal), 18)[0][1]
