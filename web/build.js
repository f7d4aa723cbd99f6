// Builds the page: `node build.js [FOLDER]`, by default into the package. The same sources give the same bytes.
import { copyFile, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { build } from "esbuild";

const here = import.meta.dirname;
const out = path.resolve(process.argv[2] ?? path.join(here, "..", "cubekit", "service", "pages"));
const modules = path.join(here, "node_modules");
const maplibre = path.join(modules, "maplibre-gl");

await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });

// MapLibre stays a file of its own, loaded when the lakes are listed already; its worker is a file too, so that the
// page works under a content security policy without blob:.
const own = {
  name: "maplibre-beside",
  setup(builder) {
    builder.onResolve({ filter: /^maplibre-gl$/ }, () => ({ path: "./maplibre-gl.js", external: true }));
  },
};
await build({
  entryPoints: { app: path.join(here, "src", "main.ts") },
  outdir: out,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  plugins: [own],
});
await build({ entryPoints: { app: path.join(here, "src", "app.css") }, outdir: out, bundle: true, minify: true });

for (const [name, target] of [["maplibre-gl.mjs", "maplibre-gl.js"], ["maplibre-gl-worker.mjs", "maplibre-gl-worker.js"]]) {
  const code = await readFile(path.join(maplibre, "dist", name), "utf8");
  await writeFile(path.join(out, target), code.replace(/\n\/\/# sourceMappingURL=.*\s*$/, "\n"));
}
for (const name of ["index.html", "icon.svg"]) await copyFile(path.join(here, "src", name), path.join(out, name));
await writeFile(path.join(out, "NOTICE.txt"), await notice());

// The licences of all that is in the files above and is not cubekit's.
async function notice() {
  const parts = ["Licences of the software that this folder contains beside cubekit's own (Apache-2.0).\n"];
  const { dependencies } = JSON.parse(await readFile(path.join(maplibre, "package.json"), "utf8"));
  const names = ["maplibre-gl", ...Object.keys(dependencies).filter((name) => !name.startsWith("@types/")).sort()];
  for (const name of names) {
    const folder = path.join(modules, name);
    const { version, license } = JSON.parse(await readFile(path.join(folder, "package.json"), "utf8"));
    const file = (await readdir(folder)).find((one) => /^licen[cs]e/i.test(one));
    const text = file ? await readFile(path.join(folder, file), "utf8") : `Licence: ${license}`;
    parts.push(`${"-".repeat(78)}\n${name} ${version} (${license})\n\n${text.replaceAll("\r", "").trim()}\n`);
  }
  return parts.join("\n");
}
