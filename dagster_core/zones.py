"""Reads the IANA time zone tables that the `tzdata` package carries. No network is needed."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from zoneinfo import ZoneInfo


@dataclass(frozen=True)
class Zone:
    """A time zone, and one country that uses it."""

    country: str
    name: str
    latitude: float
    longitude: float


@dataclass(frozen=True)
class Offset:
    """What a zone's clocks show at a moment, against UTC."""

    zone: str
    year: int
    january_minutes: int
    july_minutes: int

    @property
    def changes_clocks(self) -> bool:
        """Whether summer and winter differ."""
        return self.january_minutes != self.july_minutes


def read_zones() -> Iterator[Zone]:
    """Every pair of country and zone, as `zone.tab` lists them."""
    table = files("tzdata").joinpath("zoneinfo/zone.tab").read_text(encoding="utf-8")
    for line in table.splitlines():
        if line.startswith("#"):
            continue
        country, coordinates, name, *_ = line.split("\t")
        latitude, longitude = parse_coordinates(coordinates)
        yield Zone(country, name, latitude, longitude)


def parse_coordinates(text: str) -> tuple[float, float]:
    """Degrees from ISO 6709: `+DDMM+DDDMM` or `+DDMMSS+DDDMMSS`."""
    split = max(text.rfind("+"), text.rfind("-"))
    return _degrees(text[:split], 2), _degrees(text[split:], 3)


def _degrees(text: str, digits: int) -> float:
    sign = -1.0 if text[0] == "-" else 1.0
    number = text[1:]
    degrees, minutes, seconds = number[:digits], number[digits:][:2], number[digits:][2:] or "0"
    return sign * (int(degrees) + int(minutes) / 60 + int(seconds) / 3600)


def offset(zone: str, year: int) -> Offset:
    """The zone's offsets in January and July of a year, in minutes."""

    def minutes(month: int) -> int:
        moment = datetime(year, month, 1, tzinfo=UTC).astimezone(ZoneInfo(zone))
        delta = moment.utcoffset()
        assert delta is not None, "an aware time has an offset"
        return int(delta.total_seconds() // 60)

    return Offset(zone, year, minutes(1), minutes(7))
