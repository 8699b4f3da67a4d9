"""Where the package tells what is worth a record: the logger "sop".

It is silent until the program configures logging. DEBUG: a transaction that is run again. INFO: what looking
after a database did. WARNING: damage that was found or could not be repaired, a commit that took more than a
second, a transaction that was given up.
"""

from __future__ import annotations

import logging

logger = logging.getLogger("sop")
logger.addHandler(logging.NullHandler())
