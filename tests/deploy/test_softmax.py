"""The softmax of an exported box branch: rewritten where it is one, with the same bits, and left alone elsewhere."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from ultralytics.pruning.deploy.softmax import attribute, bins_last

BINS, ANCHORS = 16, 84


def box_branch(*, axis: int = 1, perm=(0, 2, 1, 3), second_reader: bool = False, dtype=np.float32) -> onnx.ModelProto:
    """Builds what the release exports for a DFL layer, or something that only resembles it."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        helper.make_node("Reshape", ["logits", "split"], ["sides"]),
        helper.make_node("Transpose", ["sides"], ["bins"], perm=list(perm)),
        helper.make_node("Softmax", ["bins"], ["shares"], axis=axis),
        helper.make_node("Conv", ["shares", "values"], ["expected"], kernel_shape=[1, 1]),
        helper.make_node("Reshape", ["expected", "joined"], ["boxes"]),
    ]
    if second_reader:
        nodes.append(helper.make_node("Identity", ["shares"], ["more"]))
    constants = {
        "split": np.array([-1, 4, BINS, ANCHORS]),
        "joined": np.array([-1, 4, ANCHORS]),
        "values": np.arange(BINS, dtype=dtype).reshape(1, BINS, 1, 1),
    }
    graph = helper.make_graph(
        nodes,
        "box branch",
        [helper.make_tensor_value_info("logits", kind, ["B", 4 * BINS, ANCHORS])],
        [helper.make_tensor_value_info("boxes", kind, ["B", 4, ANCHORS])]
        + ([helper.make_tensor_value_info("more", kind, ["B", BINS, 4, ANCHORS])] if second_reader else []),
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
        value_info=[helper.make_tensor_value_info("bins", kind, ["B", BINS, 4, ANCHORS])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def computed(file, logits: np.ndarray) -> np.ndarray:
    """Returns the boxes of a file."""
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(["boxes"], {"logits": logits})[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_boxes_keep_their_values(tmp_path, dtype, batch):
    onnx.save(box_branch(dtype=dtype), tmp_path / "m.onnx")
    logits = (5 * np.random.default_rng(batch).standard_normal((batch, 4 * BINS, ANCHORS))).astype(dtype)
    before = computed(tmp_path / "m.onnx", logits)
    assert bins_last(tmp_path / "m.onnx") == 1
    onnx.checker.check_model(tmp_path / "m.onnx", full_check=True)
    after = computed(tmp_path / "m.onnx", logits)
    assert before.shape == after.shape == (batch, 4, ANCHORS)
    tolerance = {np.float32: 1e-6, np.float16: 1e-3}[dtype]
    np.testing.assert_allclose(after, before, rtol=tolerance, atol=tolerance)
    softmax = next(node for node in onnx.load(tmp_path / "m.onnx").graph.node if node.op_type == "Softmax")
    assert attribute(softmax, "axis") == -1
    assert bins_last(tmp_path / "m.onnx") == 0  # there is nothing left to do


@pytest.mark.parametrize("changes", [{"perm": (0, 1, 2, 3), "axis": 2}, {"second_reader": True}])
def test_what_is_no_box_branch_is_left_alone(tmp_path, changes):
    model = box_branch(**changes)
    onnx.save(model, tmp_path / "m.onnx")
    before = (tmp_path / "m.onnx").read_bytes()
    assert bins_last(tmp_path / "m.onnx") == 0
    assert (tmp_path / "m.onnx").read_bytes() == before
