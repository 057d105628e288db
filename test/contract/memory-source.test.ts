import { hashBytes } from "../../src/lib/digest.ts";
import { type MemoryItem, MemorySource } from "./memory-source.ts";
import { sourceContract } from "./source.contract.ts";

const ITEMS: readonly MemoryItem[] = [
  { project: "Zebra", name: "s 1", files: { "a.txt": "stripes\n", "b.txt": "black and white\n" } },
  { project: "Apple", name: "50%/é", files: { "core.txt": "seeds\n" } },
  { project: "Apple", name: "empty", files: {} },
  { project: "Apple", name: "pie", files: { "crust.txt": "flour\n", "in/filling.txt": "apples\n" } },
];

const id = (project: string, name: string): string => `memory:${project}/${name}`;

sourceContract(
  "memory",
  async () => {
    const source = new MemorySource(ITEMS);
    return {
      source,
      lie: (lie, count) => source.lie(lie, count),
      honest: () => source.honest(),
      open: () => source.open,
      fetches: () => source.fetches,
      change: (what, item) => source.change(what, item),
      close: () => source.close(),
    };
  },
  {
    items: ITEMS.map(({ project, name }) => id(project, name)),
    digests: async (item) =>
      Object.values(ITEMS.find(({ project, name }) => id(project, name) === item)?.files ?? {}).map(
        (text) => hashBytes("sha256", text).split(":")[1] ?? "",
      ),
    victim: id("Apple", "pie"),
    unknown: ["Apple", "crumble"],
    recased: [
      { path: ["APPLE"], as: ["Apple"] },
      { path: ["zebra", "S 1"], as: ["Zebra", "s 1"] },
    ],
    misspelt: [
      { path: ["Aple"], near: "Apple" },
      { path: ["Apple", "pies"], near: "pie" },
    ],
    filtered: [
      { filters: { words: { project: ["zebra"] } }, items: [id("Zebra", "s 1")] },
      { filters: { include: ["Apple/p*"] }, items: [id("Apple", "pie")] },
      { filters: { exclude: ["Apple/**"] }, items: [id("Zebra", "s 1")] },
    ],
    listLies: {
      "list-cut": "archive-cut",
      "list-torn": "archive-reply",
      "list-html": "archive-reply",
      "list-busy": "archive-busy",
      "list-error": "archive-error",
    },
    lies: {
      "short-body": "proof-digest",
      "long-body": "proof-digest",
      "wrong-bytes": "proof-digest",
      "wrong-digest": "proof-digest",
      "missing-file": "proof-count",
      "missing-file-without-digests": "proof-count",
      "no-files": "proof-count",
      "extra-file": "proof-digest",
      "duplicate-entry": "proof-count",
      "hostile-name": "proof-digest",
      "html-labelled-as-data": "proof-digest",
      busy: "archive-busy",
      "busy-until": "archive-busy",
      stall: "archive-stalled",
      cut: "archive-cut",
    },
  },
);
