"""Aisle's command line: where the rooms meet a person; each command imports the rooms it needs as it runs.

The commands are in the modules named *_commands; the other modules do what only they need, and import rooms.
"""

import click

from aisle import (
    compare_commands,
    data_commands,
    doctor_commands,
    experiment_commands,
    gate_commands,
    lineage_commands,
    model_commands,
    promotion_commands,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """From photos to a served product recogniser.

    \b
    aisle use recipe=loss_guided data=synthetic size=tiny   choose the experiment
    dvc repro                                               run it, as far as anything changed
    aisle results                                           errors of every recipe, side by side
    aisle compare plain loss_guided                         recipes over their seeds, with an interval
    aisle explore                                           look at photos, lists and what refinement drops
    aisle gate                                              what the gates say of the challenger
    aisle promote                                           challenger to champion, if it passes the gate
    aisle rollback                                          back to the champion before
    aisle serve                                             answer POST /predict with the champion
    """


COMMANDS = (
    experiment_commands,
    data_commands,
    compare_commands,
    model_commands,
    gate_commands,
    promotion_commands,
    lineage_commands,
    doctor_commands,
)
for module in COMMANDS:
    for command in module.COMMANDS:
        main.add_command(command)
