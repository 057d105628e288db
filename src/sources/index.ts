/** The register of archive kinds: one lazy line each. */
import type { SourceKind } from "./source.ts";

export const SOURCE_KINDS: Readonly<Record<string, () => Promise<SourceKind>>> = {
  nbia: async () => ({
    kind: "nbia",
    title: "NBIA (The Cancer Imaging Archive)",
    settings: {
      api: {
        help: "version of the interface: v4 (default), v1, v2, or v3, the historic one",
        values: ["v1", "v2", "v3", "v4"],
      },
      resource: {
        help: "resource of the historic interface (v3): TCIA (default), or another one of the server",
      },
      pages: { help: "collection manager behind its web pages, e.g. https://cancerimagingarchive.net/api" },
    },
    account: ({ api }) => {
      // v1 shows what is public, whoever asks; the historic v3 knows its users by a key (docs/sources/nbia.md).
      if (api === "v1") return null;
      return api === "v3" ? { by: "api-key" } : { by: "user", guest: "nbia_guest" };
    },
    create: (await import("./nbia/index.ts")).createNbiaSource,
  }),
  loris: async () => ({
    kind: "loris",
    title: "LORIS (PREVENT-AD)",
    settings: { project: { help: "the only project that is served; all of them when not set" } },
    account: () => ({ by: "user" }),
    create: (await import("./loris/index.ts")).createLorisSource,
  }),
  faspex: async () => ({
    kind: "faspex",
    title: "an Aspera package (Faspex)",
    create: (await import("./faspex/index.ts")).createFaspexSource,
  }),
  aspera: async () => ({
    kind: "aspera",
    title: "ascp site",
    create: (await import("./aspera/index.ts")).createAsperaSource,
  }),
  web: async () => ({
    kind: "web",
    title: "plain files at https links",
    create: (await import("./web/index.ts")).createWebSource,
  }),
};
