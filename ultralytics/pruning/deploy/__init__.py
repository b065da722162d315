"""What is deployed: an ONNX file, exported by the release and compared with its checkpoint."""
