import os
from pathlib import Path

TINY = Path(os.environ["MPQ_TINY"])
