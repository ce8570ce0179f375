"""The run folder: append-only JSONL files, one identity per call, and an index that can be thrown away.

    run/
    ├── run.json              what the run is about; another question is refused
    ├── items.jsonl           one record per item
    ├── answers.jsonl         one record per answer
    ├── votes.jsonl           one record per judged answer
    ├── failures.jsonl        calls that gave nothing
    ├── log.jsonl             times and machines: everything that differs between equal runs
    ├── <kind>.damaged.jsonl  what was no record any more, when there was such a thing
    ├── index.sqlite, index.seal    derived; deleting them costs one pass over the files
    └── lock                  held by the one process that writes

The process may be killed at any byte: opening the folder again keeps every record whose line is intact.
"""

from vlmtools.store.folder import KINDS, Store
from vlmtools.store.keys import SCHEMA, call_key, file_hash, media_hash, plain

__all__ = ["KINDS", "SCHEMA", "Store", "call_key", "file_hash", "media_hash", "plain"]
