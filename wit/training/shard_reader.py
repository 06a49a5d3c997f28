"""Reading sharded checkpoints as data: nothing in their files is run.

torch describes such a checkpoint by a pickle, and writes what is no tensor as others. Those can
call any function when they are loaded; here only what describes tensors is made of them.
"""

import io
import pickle
from typing import Any

import torch
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import ReadItem

METADATA = "torch.distributed.checkpoint.metadata"
DESCRIBING = {  # classes and functions that a description is made of
    METADATA: {
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "torch": {"Size", "float16", "bfloat16", "float32", "float64", "int32", "int64", "bool"},
    "pathlib": {"Path", "PosixPath"},
}


class _Description(pickle.Unpickler):
    """An unpickler that knows nothing but descriptions of tensors."""

    def find_class(self, module: str, name: str) -> Any:
        """A class or function.

        Raises:
            UnpicklingError: It describes no tensor.
        """
        if name not in DESCRIBING.get(module, ()):
            raise pickle.UnpicklingError(f"{module}.{name} describes no tensor")
        return super().find_class(module, name)


class DataOnlyReader(FileSystemReader):
    """Reads the files of a sharded checkpoint, and runs nothing of them."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """As the library's.

        Raises:
            UnpicklingError: There is more than a description of tensors.
        """
        with self.fs.create_stream(self._get_metadata_path(kwargs.get("rank")), "rb") as stream:
            metadata = _Description(stream).load()
        if metadata.storage_meta is None:
            metadata.storage_meta = StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


class DataOnlyPlanner(DefaultLoadPlanner):
    """Takes tensors and plain values from a sharded checkpoint, and runs nothing of them."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """As the library's; of what is no tensor, plain values alone.

        Raises:
            UnpicklingError: It is more.
        """
        plain = io.BytesIO()
        torch.save(torch.load(value, weights_only=True), plain)
        plain.seek(0)
        super().load_bytes(read_item, plain)
