"""No row of a CSV is lost: those read and those rejected are all that Python's csv finds."""

from __future__ import annotations

import csv
import io

import pytest

from catalog.sources.csv_rows import CsvRows, read_csv


def read(text: str | bytes, *, separator: str = ",") -> CsvRows:
    content = text.encode() if isinstance(text, str) else text
    return read_csv(content, columns=["path", "label"], separator=separator, name="t.csv")


def places(table: CsvRows) -> list[str]:
    return table.rejected["photo_id"].to_list()


def count_strict(text: str) -> int:
    """Rows that Python's strict csv gives or refuses, without the header and empty lines."""
    reader, count = csv.reader(io.StringIO(text, newline=""), strict=True), -1
    while True:
        try:
            count += bool(next(reader))
        except StopIteration:
            return count
        except csv.Error:
            count += 1


@pytest.mark.parametrize(
    ("body", "num_read", "rejected"),
    [
        ('1.jpg,tea,27" TV\n2.jpg,jam,x\n3.jpg,tea,32" TV\n', 3, []),
        ('1.jpg,tea,"27"" TV"\n2.jpg,jam,\n', 2, []),
        ('1.jpg,tea,"27" TV"\n2.jpg,jam,x\n', 1, ["t.csv, line 2"]),
        ('1.jpg,tea,"27\n2.jpg,jam,x\n3.jpg,jam,"32\n4.jpg,tea,x\n', 1, ["t.csv, lines 2 to 4"]),
        ('1.jpg,tea,"27\n2.jpg,jam,"\n3.jpg,tea,x\n', 1, ["t.csv, lines 2 to 3"]),
        ('1.jpg,tea,x\n2.jpg,jam,"open\n3.jpg,tea,x\n', 1, ["t.csv, lines 3 to 4"]),
        ('1.jpg,tea,"two\nlines, of text"\n2.jpg,jam,"ends\n"\n', 2, []),
        ("1.jpg,tea\n2.jpg,jam,x,y\n\n3.jpg,tea,x\n", 1, ["t.csv, line 2", "t.csv, line 3"]),
        ("1.jpg,tea,x\r2.jpg,jam,x\r", 2, []),
        ("1.jpg,tea,x\r\n2.jpg,jam,x\r\n", 2, []),
        (f"1.jpg,tea,{'x' * 200_000}\n2.jpg,jam,x\n", 2, []),
        ("1.jpg,tea,\0\n2.jpg,j\0am,x\n", 1, ["t.csv, line 3"]),
    ],
)
def test_rows_read_and_rejected_are_all_that_strict_csv_finds(body, num_read, rejected):
    limit = csv.field_size_limit()
    table = read(f"path,label,text\n{body}")
    assert (len(table.rows), places(table)) == (num_read, rejected)
    csv.field_size_limit(10**9)
    assert len(table.rows) + len(table.rejected) == count_strict(f"path,label,text\n{body}")
    csv.field_size_limit(limit)


def test_a_row_is_known_by_its_first_line_also_after_a_field_of_several_lines():
    table = read('path,label,text\n1.jpg,tea,"a\nb"\n\n2.jpg,jam,x\n')
    assert table.rows.rows() == [("1.jpg", "tea"), ("2.jpg", "jam")]
    assert table.lines.to_list() == [2, 5]


def test_a_row_within_a_quoted_field_is_told_apart_from_text_with_as_many_commas():
    table = read('path,label\n1.jpg,"red,\ngreen"\n2.jpg,"tea\n3.jpg,jam\n4.jpg,"tea"\n')
    assert table.rows.rows() == [("1.jpg", "red,\ngreen")]
    assert places(table) == ["t.csv, lines 4 to 6"]


def test_bytes_that_are_not_utf8_cost_their_row_only_where_they_are_read():
    table = read("path,label,text\n1.jpg,caf\xe9,x\n2.jpg,tea,caf\xe9\n3.jpg,jam,x\n".encode("latin-1"))
    assert table.rows["path"].to_list() == ["2.jpg", "3.jpg"]
    assert table.rejected["message"].to_list() == [
        "t.csv, line 2: expected UTF-8, received 'caf\\xe9': save the file as UTF-8."
    ]


def test_a_header_may_have_spaces_and_a_byte_order_mark_but_not_a_wanted_name_twice():
    assert read("\ufeffpath, label ,x,x\n1.jpg,tea,,\n").rows.rows() == [("1.jpg", "tea")]
    with pytest.raises(ValueError, match=r"one column 'label', received 2"):
        read("path,label,label\n1.jpg,tea,jam\n")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("path,label\n1.jpg,tea\n".encode("utf-16"), "received UTF-16"),
        ("path,label\n1.jpg,tea\n".encode("utf-16-le"), "received UTF-16"),
        (b"PK\x03\x04rest of a spreadsheet", "a spreadsheet or an archive"),
        (b'pa"th,label\n1.jpg,tea\n', "expected a column 'path'"),
        (b'"path,label\n1.jpg,tea\n', "line 2: expected a header, received a malformed line"),
        (b"", "expected a column 'path'"),
    ],
)
def test_a_file_without_a_usable_header_is_an_error_with_its_name(content, words):
    with pytest.raises(ValueError, match=rf"^t\.csv.*{words}"):
        read(content)
