/**
 * Everything that a LORIS shows, as items: of a BIDS export where there is one, else of the lists of images. Which of
 * the two a server has is seen by asking for the export.
 */
import { RunError } from "../../errors.ts";
import type { Item } from "../../model/item.ts";
import type { SourceContext } from "../source.ts";
import type { LorisApi, WireRow } from "./api.ts";
import {
  acquiredItems,
  candidateItem,
  candidateOf,
  companionItem,
  type DataType,
  exportItems,
  imageLink,
  locatorOf,
  type Place,
} from "./map.ts";

/** The only project of a LORIS without the project feature, and the one that an export is of. */
const PROJECT = "loris";
/** Images that are asked before a server counts as one without NIfTI. */
const PROBES = 3;
/** So long what names there are is not asked again. */
const NAMES_MS = 60_000;

/** What a candidate has; some hundred of them, each with a few visits. */
export interface CandidateNames {
  pscid: string | null;
  readonly projects: Set<string>;
  /** Scan types by visit. */
  readonly visits: Map<string, Set<string>>;
  /** Of the candidate as a whole. */
  readonly files: Set<string>;
}

/** What names may be resolved to. */
export interface Names {
  readonly candidates: ReadonlyMap<string, CandidateNames>;
  readonly types: ReadonlySet<string>;
  readonly projects: ReadonlySet<string>;
  /** Files of the study itself. */
  readonly files: ReadonlySet<string>;
}

export class Listing {
  readonly #api: LorisApi;
  readonly #place: Place;
  /** The one that is served, by the archive's settings. */
  readonly #project: string | null;
  readonly #names = new Map<DataType, { readonly atMs: number; readonly names: Promise<Names> }>();

  constructor(api: LorisApi, place: Place, project: string | null) {
    this.#api = api;
    this.#place = place;
    this.#project = project;
  }

  /** In any order; an item may come twice. */
  async *items(type: DataType, context: SourceContext): AsyncGenerator<Item> {
    if (type === "minc") {
      yield* this.#acquired(context);
      return;
    }
    const project = this.#project ?? PROJECT;
    const rows = await this.#api.manifest(project, context);
    if (rows === null) yield* this.#companions(context);
    else for await (const row of rows) yield* exportItems(this.#place, project, row);
  }

  async projects(context: SourceContext): Promise<readonly string[]> {
    return this.#project === null ? this.#api.projects(context) : [this.#project];
  }

  async names(type: DataType, context: SourceContext): Promise<Names> {
    const now = context.clock.monotonicMs();
    const last = this.#names.get(type);
    if (last && now - last.atMs < NAMES_MS) return last.names;
    const names = this.#readNames(type, context);
    this.#names.set(type, { atMs: now, names });
    names.catch(() => this.#names.delete(type));
    return names;
  }

  async #readNames(type: DataType, context: SourceContext): Promise<Names> {
    const candidates = new Map<string, CandidateNames>();
    const types = new Set<string>();
    const projects = new Set<string>();
    const files = new Set<string>();
    for await (const { labels } of this.items(type, context)) {
      const { Project, Candidate, PSCID, Visit, LorisScanType, File } = labels;
      projects.add(String(Project));
      if (LorisScanType != null) types.add(String(LorisScanType));
      if (Candidate == null) {
        files.add(String(File));
        continue;
      }
      const known = candidates.get(String(Candidate)) ?? {
        pscid: null,
        projects: new Set<string>(),
        visits: new Map<string, Set<string>>(),
        files: new Set<string>(),
      };
      candidates.set(String(Candidate), known);
      if (PSCID != null) known.pscid = String(PSCID);
      known.projects.add(String(Project));
      if (Visit == null) {
        known.files.add(String(File));
        continue;
      }
      const scans = known.visits.get(String(Visit)) ?? new Set<string>();
      known.visits.set(String(Visit), scans);
      if (LorisScanType != null) scans.add(String(LorisScanType));
    }
    return { candidates, types, projects, files };
  }

  /** Rows of images with the project that they are of. Projects that this account may not see are left out. */
  async *#images(
    context: SourceContext,
  ): AsyncGenerator<{ readonly project: string; readonly row: WireRow }> {
    let shown = 0;
    const projects = await this.projects(context);
    for (const project of projects) {
      const rows = await this.#api.images(project, context);
      if (rows === null) {
        const { archive } = this.#place;
        context.log("info", `${archive} does not show the images of its project ${project} to this account`);
        continue;
      }
      shown += 1;
      for await (const row of rows) yield { project, row };
    }
    if (shown === 0) throw this.#nothing(projects);
  }

  #nothing(projects: readonly string[]): RunError {
    const { archive } = this.#place;
    const names = projects.join(", ");
    return this.#project === null
      ? new RunError("access-denied", `${archive} shows this account the images of no project (${names})`)
      : new RunError("unknown-name", `${archive} shows this account no project ${names}`, {
          hint: "the archive's setting `project` names it",
        });
  }

  async *#acquired(context: SourceContext): AsyncGenerator<Item> {
    const projects = new Map<string, string>();
    // Each image tells of its session.
    const sessions = new Set<string>();
    for await (const { project, row } of this.#images(context)) {
      const candidate = candidateOf(row);
      if (candidate !== null) projects.set(candidate, projects.get(candidate) ?? project);
      for (const item of acquiredItems(this.#place, project, row)) {
        if (locatorOf(item).form !== "session") yield item;
        else if (!sessions.has(item.id)) {
          sessions.add(item.id);
          yield item;
        }
      }
    }
    for await (const row of (await this.#api.candidates(context)) ?? []) {
      const project = projects.get(candidateOf(row) ?? "");
      const item = project === undefined ? null : candidateItem(this.#place, project, row);
      if (item) yield item;
    }
  }

  async *#companions(context: SourceContext): AsyncGenerator<Item> {
    const waiting: Item[] = [];
    let offered = false;
    for await (const { project, row } of this.#images(context)) {
      const item = companionItem(this.#place, project, row);
      if (offered) {
        yield item;
        continue;
      }
      waiting.push(item);
      offered = await this.#api.offersNifti(imageLink(this.#place, project, row), context);
      if (offered) yield* waiting;
      else if (waiting.length >= PROBES) break;
    }
    if (offered || waiting.length === 0) return;
    const { archive } = this.#place;
    throw new RunError(
      "unknown-name",
      `${archive} has no BIDS export, and its LORIS offers no NIfTI images`,
      {
        hint: `its images as they were acquired are at ${archive}:minc`,
      },
    );
  }
}
