"""The messages in a TensorFlow checkpoint: TensorFlow's definitions, as far as they are read here, without TensorFlow.

Fields keep TensorFlow's names and numbers (tensor_bundle.proto, tensor_shape.proto, tensor_slice.proto, tensor.proto,
saved_tensor_slice.proto). They live in a pool of their own, beside TensorFlow's where that is imported too.
"""

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

_MESSAGES = {
    "Version": {"producer": "1 int32", "min_consumer": "2 int32"},
    "Dim": {"size": "1 int64", "name": "2 string"},
    "Shape": {"dim": "2 *Dim", "unknown_rank": "3 bool"},
    "Extent": {"start": "1 int64", "length": "2 ?int64"},
    "Slice": {"extent": "1 *Extent"},
    "BundleHeader": {"num_shards": "1 int32", "endianness": "2 int32", "version": "3 Version"},
    "BundleEntry": {
        "dtype": "1 int32", "shape": "2 Shape", "shard_id": "3 int32", "offset": "4 int64", "size": "5 int64",
        "crc32c": "6 fixed32", "slices": "7 *Slice",
    },
    "Numbers": {"float_val": "5 *float", "double_val": "6 *double", "int_val": "7 *int32", "int64_val": "10 *int64"},
    "SliceMeta": {"name": "1 string", "shape": "2 Shape", "type": "3 int32", "slice": "4 *Slice"},
    "TensorSliceMeta": {"tensor": "1 *SliceMeta", "versions": "2 Version"},
    "SavedSlice": {"name": "1 string", "slice": "2 Slice", "data": "3 Numbers"},
    "TensorSlices": {"meta": "1 TensorSliceMeta", "data": "2 SavedSlice"},
    "State": {
        "model_checkpoint_path": "1 string", "all_model_checkpoint_paths": "2 *string",
        "all_model_checkpoint_timestamps": "3 *double", "last_preserved_timestamp": "4 double",
    },
}  # fmt: skip
"""Number and type of each field: * is repeated, ? says whether it was there."""


def _described() -> FileDescriptorProto:
    file = FileDescriptorProto(name="tensorflow_files.proto", package="tensorflow_files", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, text in fields.items():
            number, kind = text.split()
            repeated, present = kind.startswith("*"), kind.startswith("?")
            kind = kind.lstrip("*?")
            field = message.field.add(name=field_name, number=int(number))
            field.label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
            if kind in _MESSAGES:
                field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{file.package}.{kind}"
            else:
                field.type = getattr(FieldDescriptorProto, f"TYPE_{kind.upper()}")
            if present:
                message.oneof_decl.add(name=f"has_{field_name}")
                field.oneof_index = 0
    return file


_POOL = descriptor_pool.DescriptorPool()
_POOL.AddSerializedFile(_described().SerializeToString())


def _kind(name: str) -> type:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"tensorflow_files.{name}"))


BundleHeader, BundleEntry, TensorSlices = _kind("BundleHeader"), _kind("BundleEntry"), _kind("TensorSlices")
State = _kind("State")
"""Message of the text file `checkpoint` in a folder."""
