"""Writes small image classification sets as TFDS stores them, without TensorFlow."""

import io
import json
import sys

import numpy as np
from array_record.python import array_record_module
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

# Width and height: many, one of a single pixel, one long and thin; the first is the largest.
SIZES = ((640, 480), (48, 40), (33, 60), (100, 37), (1, 1), (90, 90), (300, 20), (64, 48), (57, 41))
NUM_CLASSES = 5


def jpeg(number, mode="RGB", size=None):
  """A smooth image, the file's bytes; each number has its own size and colours."""
  width, height = size or SIZES[number % len(SIZES)]
  rng = np.random.default_rng(number)
  x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
  planes = [a + b * x + c * y + d * x * y for a, b, c, d in rng.uniform(0, 63, (len(mode), 4))]
  bands = [Image.fromarray(np.uint8(plane)) for plane in planes]
  file = io.BytesIO()
  Image.merge(mode, bands).save(file, "JPEG", quality=95)
  return file.getvalue()


def mode_of(number):
  """Of every seven images one is grey and one is CMYK."""
  return {2: "L", 5: "CMYK"}.get(number % 7, "RGB")


def name_of(split, number):
  return f"{split}_{number:03}.JPEG"


class Probe:
  """Examples whose label is the number of JAX backends in the process that reads them."""

  def __getitems__(self, numbers):
    bridge = sys.modules.get("jax._src.xla_bridge")
    return [{"image": jpeg(0), "label": len(bridge._backends) if bridge else 0} for _ in numbers]


def write_set(data_dir, *, name="photos", corrupt=(), label=lambda i: i % NUM_CLASSES, **splits):
  """Writes a set of such images.

  Args:
    data_dir: of TFDS.
    name: of the set.
    corrupt: names of examples whose files are cut short.
    label: from the number of an example to its label.
    **splits: the number of examples of each split.
  """

  def example(split, i):
    data, file_name = jpeg(i, mode_of(i)), name_of(split, i)
    return data[: len(data) // 2] if file_name in corrupt else data, label(i), file_name

  write_files(
    data_dir,
    name,
    {split: [example(split, i) for i in range(count)] for split, count in splits.items()},
  )


def write_files(data_dir, name, splits):
  """Writes a set of image files in two shards a split.

  Args:
    data_dir: of TFDS.
    name: of the set.
    splits: for each split a list of file contents, label and file name.
  """
  path = data_dir / name / "1.0.0"
  path.mkdir(parents=True)
  infos = []
  for split, examples in splits.items():
    shards = examples[: len(examples) // 2], examples[len(examples) // 2 :]
    for number, shard in enumerate(shards):
      writer = array_record_module.ArrayRecordWriter(
        str(path / f"{name}-{split}.array_record-{number:05}-of-00002"), "group_size:1"
      )
      for example in shard:
        writer.write(_serialized(*example))
      writer.close()
    infos.append(
      {
        "name": split,
        "shardLengths": [str(len(shard)) for shard in shards],
        "numBytes": "1",
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
      }
    )
  (path / "dataset_info.json").write_text(
    json.dumps({"name": name, "version": "1.0.0", "fileFormat": "array_record", "splits": infos})
  )
  features = "tensorflow_datasets.core.features."
  (path / "features.json").write_text(
    json.dumps(
      {
        "pythonClassName": features + "features_dict.FeaturesDict",
        "featuresDict": {
          "features": {
            "file_name": {"pythonClassName": features + "text_feature.Text", "text": {}},
            "image": {
              "pythonClassName": features + "image_feature.Image",
              "image": {
                "dtype": "uint8",
                "encodingFormat": "jpeg",
                "shape": {"dimensions": ["-1", "-1", "3"]},
              },
            },
            "label": {
              "pythonClassName": features + "class_label_feature.ClassLabel",
              "classLabel": {"numClasses": str(NUM_CLASSES)},
            },
          }
        },
      }
    )
  )


def _serialized(data, label, name):
  example = tf_example_pb2.Example()
  features = example.features.feature
  features["image"].bytes_list.value.append(data)
  features["label"].int64_list.value.append(label)
  features["file_name"].bytes_list.value.append(name.encode())
  return example.SerializeToString()
