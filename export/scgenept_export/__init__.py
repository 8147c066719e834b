"""Export stage of scgenept-rt: trained checkpoints become ONNX bundles. Needs PyTorch; the runtime does not."""
