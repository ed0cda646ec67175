// Runs an ONNX file in onnxruntime-web under Node: the WebAssembly build, on one thread.
//
//   node web.mjs FOLDER MODEL < request.json > response.json
//
// FOLDER holds node_modules/onnxruntime-web. The request is {name: tensor} with every graph input,
// the response {"version": text, "outputs": {name: tensor}} with every output. A tensor is {"type":
// "float32" or "int64", "dims": [...], "data": base64 of its little-endian elements}.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const ARRAYS = { float32: Float32Array, int64: BigInt64Array };

function arrayType(type) {
  const found = ARRAYS[type];
  if (!found) {
    throw new Error(`tensor type ${type}: expected one of ${Object.keys(ARRAYS).join(", ")}`);
  }
  return found;
}

function decode(ort, { type, dims, data }) {
  // A copy of its own: a Buffer may start anywhere in a shared pool, an Int64 array may not.
  const bytes = Uint8Array.from(Buffer.from(data, "base64"));
  return new ort.Tensor(type, new (arrayType(type))(bytes.buffer), dims);
}

function encode({ type, dims, data }) {
  arrayType(type);
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return { type, dims: [...dims], data: bytes.toString("base64") };
}

function mapValues(object, change) {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, change(value)]));
}

async function main(folder, model) {
  const ort = createRequire(resolve(folder, "package.json"))("onnxruntime-web");
  ort.env.wasm.numThreads = 1;
  const request = JSON.parse(readFileSync(0, "utf8"));
  const session = await ort.InferenceSession.create(readFileSync(model), {
    executionProviders: ["wasm"],
  });
  const results = await session.run(mapValues(request, (tensor) => decode(ort, tensor)));
  const response = { version: ort.env.versions.web, outputs: mapValues(results, encode) };
  process.stdout.write(JSON.stringify(response));
}

// The message alone: Node would print the line of minified source that threw, all 100 kB of it.
main(...process.argv.slice(2)).catch((error) => {
  console.error(`web.mjs: ${error.message}`);
  process.exitCode = 1;
});
