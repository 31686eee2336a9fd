// Runs the module of examples/wasm.rs: node kernels/wasm.mjs MODULE.wasm
import { readFile } from "node:fs/promises";

const { instance } = await WebAssembly.instantiate(await readFile(process.argv[2]));
const sets = instance.exports.instruction_sets();
for (const check of ["compare", "multiply"]) {
  const passed = instance.exports[check]();
  if (passed <= 0 || sets < 2) {
    console.error(`${check}, ${sets} instruction sets: ${passed}`);
    process.exit(1);
  }
  console.log(`${check}, ${sets} instruction sets: ${passed} passed`);
}
