/** What a stand-in is opened with, around a few series in memory, for its own tests. */
import type { Dataset } from "./data/dataset.ts";
import { fileOf, folderOf } from "./data/packages.ts";
import { TransferServer } from "./fasp/transfer-server.ts";
import { PackageShelf } from "./packages.ts";
import type { World } from "./stand-ins.ts";
import { ChangedStudies } from "./study-changes.ts";

const nobody = (): never => {
  throw new Error("nobody transfers anything in this world");
};

/** No studies, one package, and a transfer server that does not listen. */
export function tinyWorld(dataset: Dataset): World {
  const root = folderOf("PKG - Tiny", 0, [fileOf("slide.svs", 0, "slide")]);
  const context = Buffer.from('{"id":"701","passcode":"tiny"}').toString("base64");
  return {
    dataset: Object.assign(dataset, { revisionOf: () => "" }),
    studies: new ChangedStudies(async () => ({ studies: [], problems: [], served: new Set() })),
    packages: new PackageShelf(async () => ({
      packages: [{ title: "Tiny", root }],
      served: new Set(),
    })),
    links: async (origin) => ({ package: `${origin}/aspera/faspex/public/package?context=${context}` }),
    transfers: new TransferServer({
      generation: () => 1,
      announce: nobody,
      announceSftp: nobody,
    }),
    seed: 1,
    user: "demo",
    password: "demo",
    tokens: { ttlSeconds: 60, generation: 1 },
    precompute: false,
  };
}
