#!/bin/sh
# Takes out of /opt/venv what a network on a CPU never loads: OpenVINO's plug-ins for other devices
# and its readers of other forms than ONNX, and ONNX Runtime's library for C, which its module for
# Python holds once more.
set -eu
libs=$(/opt/venv/bin/python -c 'import pathlib, openvino; print(pathlib.Path(openvino.__file__).parent / "libs")')
for part in intel_gpu_plugin intel_npu_plugin tensorflow_frontend tensorflow_lite_frontend \
  pytorch_frontend paddle_frontend gguf_frontend jax_frontend; do
  rm -f "$libs"/libopenvino_"$part".so*
done
rm -f "$libs"/cache.json
rm -f "$libs"/../../onnxruntime/capi/libonnxruntime.so*
/opt/venv/bin/python -c 'import onnxruntime; onnxruntime.InferenceSession; import openvino; openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")'
