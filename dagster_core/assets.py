"""The time zones of the world and their offsets, as tables of the warehouse."""

from collections.abc import Iterator

import dagster as dg

from dagster_core import zones
from dagster_core.resources import Warehouse, years


@dg.asset(group_name="time_zones", kinds={"python", "postgres"})
def time_zones(warehouse: dg.ResourceParam[Warehouse]) -> dg.MaterializeResult[None]:
    """Every pair of country and zone, with where its principal place is."""
    rows = [(it.country, it.name, it.latitude, it.longitude) for it in zones.read_zones()]
    warehouse.replace("time_zones", ["country", "name", "latitude", "longitude"], rows)
    return dg.MaterializeResult(metadata={"rows": len(rows)})


@dg.asset(group_name="time_zones", kinds={"python", "postgres"}, deps=[time_zones])
def utc_offsets(warehouse: dg.ResourceParam[Warehouse]) -> dg.MaterializeResult[None]:
    """Each zone's offset in January and July of each year, in minutes."""
    names = sorted({it.name for it in zones.read_zones()})
    offsets = [zones.offset(name, year) for name in names for year in years()]
    rows = [
        (it.zone, it.year, it.january_minutes, it.july_minutes, it.changes_clocks) for it in offsets
    ]
    columns = ["zone", "year", "january_minutes", "july_minutes", "changes_clocks"]
    warehouse.replace("utc_offsets", columns, rows)
    return dg.MaterializeResult(metadata={"rows": len(rows)})


@dg.asset_check(asset=time_zones)
def every_zone_is_known(warehouse: dg.ResourceParam[Warehouse]) -> dg.AssetCheckResult:
    """The warehouse has as many rows as the table it was read from."""
    expected = sum(1 for _ in zones.read_zones())
    found = warehouse.count("time_zones")
    return dg.AssetCheckResult(
        passed=found == expected, metadata={"found": found, "expected": expected}
    )


@dg.multi_asset_check(specs=[dg.AssetCheckSpec("offsets_are_sane", asset="utc_offsets")])
def offsets_are_sane(warehouse: dg.ResourceParam[Warehouse]) -> Iterator[dg.AssetCheckResult]:
    """No clock is more than 14 hours ahead of UTC or 12 behind."""
    with warehouse.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT min(january_minutes), max(january_minutes) FROM utc_offsets")
        row = cursor.fetchone()
        assert row is not None, "min and max answer one row"
        least, most = row
    yield dg.AssetCheckResult(
        passed=least is not None and least >= -12 * 60 and most <= 14 * 60,
        metadata={"least": least, "most": most},
    )
