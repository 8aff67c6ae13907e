"""Books that survive their keeper."""

from pathlib import Path

from callsheet.demo.books import Books
from callsheet.demo.ledger import (
    CALLER,
    COMMITS,
    RECEIVER,
    Acknowledged,
    Answered,
    Committing,
    Entry,
    Ledger,
    Received,
    Tail,
)

ENTRIES: list[Entry] = [
    Acknowledged(0, "evt-1", "R1", deduped=False),
    Received("evt-1", 1, "R1", 1),
    Answered("evt-1", 1, 503),
    Committing(("R1", "R2")),
]


def write(path: Path, *entries: Entry) -> None:
    """Append the entries, as one life of a process does."""
    ledger = Ledger(path)
    for entry in entries:
        ledger.append(entry)
    ledger.close()


def test_what_was_entered_is_read_back(tmp_path: Path) -> None:
    """Each kind of entry comes back as it was, in order, also over several lives of the keeper."""
    path = tmp_path / "ledger"

    write(path, *ENTRIES[:2])
    write(path, *ENTRIES[2:])

    assert ENTRIES == list(Tail(path).new())


def test_a_reader_gets_only_what_is_new(tmp_path: Path) -> None:
    """A ledger that is still written is read bit by bit; one that is not there yet is empty."""
    path = tmp_path / "ledger"
    tail = Tail(path)

    assert [] == list(tail.new())
    write(path, ENTRIES[0])
    assert ENTRIES[:1] == list(tail.new())
    assert [] == list(tail.new())
    write(path, ENTRIES[1])
    assert ENTRIES[1:2] == list(tail.new())


def test_a_torn_line_says_nothing_and_harms_no_other(tmp_path: Path) -> None:
    """Who is killed while writing leaves half a line: it is passed over, the next life's lines are read."""
    path = tmp_path / "ledger"
    write(path, ENTRIES[0])
    whole = path.read_bytes()
    path.write_bytes(whole + whole.strip()[:-9])
    tail = Tail(path)

    assert ENTRIES[:1] == list(tail.new())
    write(path, ENTRIES[1])
    assert ENTRIES[1:2] == list(tail.new())


def test_books_count_what_is_under_way(tmp_path: Path) -> None:
    """Acknowledged, delivered and in flight follow from the ledgers."""
    write(tmp_path / CALLER, *(Acknowledged(n, f"evt-{n}", f"R{n}", deduped=False) for n in range(3)))
    write(tmp_path / RECEIVER, *(Received(f"evt-{n}", 1, f"R{n}", 1) for n in range(3)), Answered("evt-1", 1, 200))
    books = Books(tmp_path, calls=4, deliverable=3)

    books.look()

    assert "3/4 acknowledged, 1 delivered, 2 in flight" == str(books)
    assert {"evt-1"} == books.delivered


def test_the_kill_waits_for_its_moment(tmp_path: Path) -> None:
    """Half acknowledged is not enough while too little is in flight; nearly all acknowledged always is."""
    books = Books(tmp_path, calls=100, deliverable=100)

    def acknowledged(*numbers: int) -> None:
        write(tmp_path / CALLER, *(Acknowledged(n, f"evt-{n}", f"R{n}", deduped=False) for n in numbers))
        books.look()

    acknowledged(*range(49))
    books.in_flight = 10
    assert not books.is_half_way
    acknowledged(49)
    assert books.is_half_way
    books.in_flight = 9
    assert not books.is_half_way
    acknowledged(*range(50, 90))
    assert books.is_half_way


def test_a_store_that_answers_early_has_debts(tmp_path: Path) -> None:
    """What is acknowledged and not announced as committing would be lost now."""
    books = Books(tmp_path, calls=4, deliverable=4)
    write(tmp_path / CALLER, Acknowledged(0, "evt-0", "R0", deduped=False))
    books.look()
    assert books.has_debts

    write(tmp_path / COMMITS, Committing(("R0",)))
    books.look()

    assert not books.has_debts
