"""The tables are read as they are."""

import pytest

from dagster_core import zones


def test_the_tables_cover_the_world() -> None:
    table = list(zones.read_zones())
    assert len(table) > 400
    berlin = next(it for it in table if it.name == "Europe/Berlin")
    assert (berlin.country, round(berlin.latitude), round(berlin.longitude)) == ("DE", 52, 13)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+5230+01322", (52.5, 13.3667)),
        ("-690022+0393524", (-69.0061, 39.59)),
        ("+404251-0740023", (40.7142, -74.0064)),
    ],
)
def test_coordinates(text: str, expected: tuple[float, float]) -> None:
    assert zones.parse_coordinates(text) == pytest.approx(expected, abs=1e-4)


def test_summer_time_changes_clocks() -> None:
    assert zones.offset("Europe/Berlin", 2024) == zones.Offset("Europe/Berlin", 2024, 60, 120)
    assert zones.offset("Europe/Berlin", 2024).changes_clocks
    assert not zones.offset("Asia/Tokyo", 2024).changes_clocks
