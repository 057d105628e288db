/**
 * The LORIS stand-in: both server families, as observed of LORIS 20.1 (PREVENT-AD fork), 22, 24.1 and 28. It shares no
 * code with the client of this archive.
 */
import type { ImagingStudy } from "../../sandbox/data/studies.ts";
import type { Route, SandboxRequest, StandIn, World } from "../../sandbox/stand-ins.ts";
import { Database } from "./sandbox/database.ts";
import { FlatFamily } from "./sandbox/flat.ts";
import { LoginDesk } from "./sandbox/login.ts";
import { ModularFamily, type Release } from "./sandbox/modular.ts";

const FLAT_VERSION = "v0.0.3-dev";

/** Servers of the modular family: folder, release, and the version of the API that clients are led to. */
const MODULAR: readonly { readonly name: string; readonly release: Release; readonly version: string }[] = [
  { name: "loris-m", release: 24, version: "v0.0.3" },
  { name: "loris-m22", release: 22, version: "v0.0.3-dev" },
  { name: "loris-m28", release: 28, version: "v0.0.3" },
];

export async function openLorisStandIn(world: World): Promise<StandIn> {
  return new LorisStandIn(world);
}

class LorisStandIn implements StandIn {
  readonly kind = "loris";
  readonly #world: World;
  readonly #desk: LoginDesk;
  readonly #flat: FlatFamily;
  readonly #modular: ReadonlyMap<string, ModularFamily>;

  constructor(world: World) {
    this.#world = world;
    this.#desk = new LoginDesk(world);
    this.#flat = new FlatFamily(this.#desk, remembered(world, flatStudies));
    const all = remembered(world, (studies) => studies);
    this.#modular = new Map(
      MODULAR.map(({ name, release }) => [name, new ModularFamily(release, this.#desk, all)]),
    );
  }

  archives(origin: string) {
    const credentials = { USER: this.#world.user, PASSWORD: this.#world.password };
    return [
      {
        name: "preventad",
        kind: this.kind,
        url: `${origin}/openpreventad/api/${FLAT_VERSION}`,
        credentials,
      },
      ...MODULAR.map(({ name, version }) => ({
        name,
        kind: this.kind,
        url: `${origin}/${name}/api/${version}`,
        credentials,
      })),
    ];
  }

  reset(): void {
    this.#desk.reset();
  }

  route(request: SandboxRequest): Route | undefined {
    // The real server has no folder before `api`: a client with the address built in comes without it.
    const flat = /^((?:\/openpreventad)?\/api\/v0\.0\.3-dev)\/?(\/.*)$/.exec(request.path);
    if (flat !== null) return this.#flat.route(flat[2]!, request, flat[1]!);
    const [, folder, rest] = /^\/([^/]+)\/api(\/.*)$/.exec(request.path) ?? [];
    const family = folder === undefined ? undefined : this.#modular.get(folder);
    return family?.route(rest!, request, `/${folder}/api`);
  }
}

/** The fork has one export, and one project in which everything is; nobody is kept from anything. */
function flatStudies(studies: readonly ImagingStudy[]): ImagingStudy[] {
  const bids = studies.find(({ form }) => form === "bids");
  return studies.filter((study) => study === bids || (study.form === "minc" && study.access === "public"));
}

/** The database of the studies as they are now, built anew after a change. */
function remembered(
  { studies }: World,
  choose: (studies: readonly ImagingStudy[]) => readonly ImagingStudy[],
): () => Promise<Database> {
  let last: { readonly of: readonly ImagingStudy[]; readonly database: Database } | undefined;
  return async () => {
    const current = await studies.current();
    if (last?.of !== current) last = { of: current, database: new Database(choose(current)) };
    return last.database;
  };
}
