// Runs the module of examples/wasm.rs: node kernels/wasm.mjs MODULE.wasm
import { readFile } from "node:fs/promises";

const { instance } = await WebAssembly.instantiate(await readFile(process.argv[2]));
const [sets, equal] = [instance.exports.instruction_sets(), instance.exports.compare()];
if (equal <= 0 || sets < 2) {
  console.error(`of ${sets} instruction sets, one differs from the scalar code: ${equal}`);
  process.exit(1);
}
console.log(`${sets} instruction sets, ${equal} tensors equal`);
