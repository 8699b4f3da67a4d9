"""Stands in for sop4py 2.3.3: the calls that `from_sop4py` makes, and what they answer there.

Of each B-tree a folder holds `storeinfo.txt` as there, and its items in `items.json`, in order of key.
"""

print("INFO: sop4py logs to stdout")


class Context:
    pass
