/** The register of archive kinds: one lazy line each. */
import type { SourceKind } from "./source.ts";

export const SOURCE_KINDS: Readonly<Record<string, () => Promise<SourceKind>>> = {
  nbia: async () => ({
    kind: "nbia",
    title: "NBIA (The Cancer Imaging Archive)",
    create: (await import("./nbia/index.ts")).createNbiaSource,
  }),
};
