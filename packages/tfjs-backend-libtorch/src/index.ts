/**
 * The TensorFlow.js backend `libtorch`: importing this entry registers it and makes it the current one, as `tfjs-node` does.
 * When the import is over, every operation of TensorFlow.js runs on PyTorch's ATen operators.
 *
 * The PyTorch is that of `ESPALIER_TORCH` (a Python, a virtual environment, or the folder of a torch package), else of
 * `python3`, else of `.venv` under the current folder. The addon is compiled at the first import, into
 * `ESPALIER_ADDON_DIR`, else the user's cache folder. `ESPALIER_DEVICE` and `ESPALIER_THREADS` choose device and threads.
 *
 * The entry `./parts` has the steps one by one, and registers nothing by itself.
 *
 * @packageDocumentation
 */
import { registerLibtorch } from "./register.js";

registerLibtorch();

export { BACKEND_NAME, type LibtorchInfo, libtorchInfo } from "./load.js";
