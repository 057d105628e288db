/** What a stand-in is opened with, around a few series in memory, for its own tests. */
import type { Dataset } from "./data/dataset.ts";
import { TransferServer } from "./fasp/transfer-server.ts";
import { PackageShelf } from "./packages.ts";
import type { World } from "./stand-ins.ts";
import { ChangedStudies } from "./study-changes.ts";

/** No studies, no packages, and a transfer server that does not listen. */
export function tinyWorld(dataset: Dataset): World {
  return {
    dataset: Object.assign(dataset, { revisionOf: () => "" }),
    studies: new ChangedStudies(async () => ({ studies: [], problems: [], served: new Set() })),
    packages: new PackageShelf(async () => ({ packages: [], served: new Set() })),
    transfers: new TransferServer({
      generation: () => 1,
      announce: () => {
        throw new Error("nobody transfers anything in this world");
      },
    }),
    seed: 1,
    user: "demo",
    password: "demo",
    tokens: { ttlSeconds: 60, generation: 1 },
    precompute: false,
  };
}
