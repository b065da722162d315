"""Networks in integers: which parts of an ONNX become integers is decided by what is measured."""
