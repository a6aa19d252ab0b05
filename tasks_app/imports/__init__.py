"""Readers of other schedulers' files, one file each. Pure: text in, entries and problems out."""
