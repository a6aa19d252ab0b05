"""Stand-alone scripts; load_demo copies them to the scripts folder of the scheduler."""
