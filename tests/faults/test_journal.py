from __future__ import annotations

from pathlib import Path

from faults.journal import Journal, Told

from huskies.sled.broadcast import Receipt


def test_a_line_of_which_only_the_beginning_was_written_is_none(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "sled")
    for number in (12, 13):
        journal.attempted(number)
        journal.acknowledged(number, Receipt(seq=number, sled_id="aa", epoch="e1"))
    for name in ("sled.attempted", "sled.acknowledged"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-1])
    after = Journal(tmp_path, "sled")
    assert (after.last_attempted(), after.all_acknowledged()) == (12, [Told(12, "aa", "e1", 12)])
    # The next run begins behind what is whole.
    after.attempted(13)
    after.acknowledged(13, Receipt(seq=13, sled_id="aa", epoch="e1"))
    assert after.all_attempted() == [12, 13]
    assert [told.number for told in after.all_acknowledged()] == [12, 13]
