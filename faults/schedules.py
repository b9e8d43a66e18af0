"""Fault 7: duplicated, reordered and re-chunked frames against the pure core, many more than in the tests."""

from __future__ import annotations

from tests.protocol import test_schedules as schedules

from faults.setting import Setting

_RESTORES = (
    schedules.test_an_older_outbox_restored_loses_only_what_no_one_holds_and_doubles_nothing,
    schedules.test_a_cloned_sled_ends_in_an_epoch_of_its_own,
    schedules.test_a_gateway_restored_from_a_backup_gets_again_what_is_held_and_names_what_is_missing,
)


def run(setting: Setting) -> None:
    # Other schedules than those of the tests, which begin at 0.
    first = (setting.seed + 1) * 1_000_000
    for seed in range(first, first + setting.sizes.schedules):
        try:
            world = schedules.run(seed, deranged=seed % 2 == 1)
            schedules.check(world)
            if seed % 10 == 0:
                for restore in _RESTORES:
                    restore(seed)
                    setting.report.count("restores and clones")
        except BaseException as error:
            error.add_note(f"schedule {seed}: HUSKIES_SEED={seed}")
            raise
        setting.report.count("schedules")
        setting.report.count("frames", world.frames)
        setting.report.count("events attempted", len(world.recorded))
        setting.report.count("found", len(world.stored()))
