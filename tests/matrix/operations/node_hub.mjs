import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { join, relative } from "node:path";
import { pathToFileURL } from "node:url";

const { REPO: repo, URL: hubUrl, MODULES: modules, COMMIT: commit } = process.env;
const found = createRequire(join(modules, "x.js")).resolve("@huggingface/hub");
const hub = await import(pathToFileURL(found));
const sha256 = (data) => createHash("sha256").update(data).digest("hex");
const tree = (folder, below = folder) =>
  readdirSync(below).flatMap((name) => {
    const path = join(below, name);
    return statSync(path).isDirectory() ? tree(folder, path) : [[relative(folder, path), sha256(readFileSync(path))]];
  });

const listed = [];
for await (const file of hub.listFiles({ repo, hubUrl, recursive: true })) if (file.type === "file") listed.push(file.path);
const blob = await hub.downloadFile({ repo, path: "model.safetensors", hubUrl });
const result = {
  sha: (await hub.modelInfo({ name: repo, hubUrl, additionalFields: ["sha"] })).sha,
  listed: listed.sort(),
  exists: [await hub.fileExists({ repo, path: "config.json", hubUrl }), await hub.fileExists({ repo, path: "none", hubUrl })],
  whole: sha256(Buffer.from(await blob.arrayBuffer())),
  middle: sha256(Buffer.from(await (await hub.downloadFile({ repo, path: "model.safetensors", hubUrl })).slice(5_000_000, 5_001_000).arrayBuffer())),
  commit: sha256(Buffer.from(await (await hub.downloadFile({ repo, path: "config.json", revision: commit, hubUrl })).arrayBuffer())),
  snapshot: Object.fromEntries(tree(await hub.snapshotDownload({ repo, hubUrl, cacheDir: "cache" }))),
};
console.log("\n" + JSON.stringify(result));
