"""Real huskies processes under faults, judged by what sleds attempted and were told: `python -m faults`."""
