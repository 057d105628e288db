/** What the phantom archive holds, as plain data: collections, patients, studies, series. */

import { CC_BY_3, CC_BY_4, CC_BY_NC_4 } from "./archive-facts.ts";

export type PhantomKind = "ct" | "scout" | "mr" | "pt" | "enhanced-ct" | "rtstruct" | "seg";

export interface PlannedSeries {
  readonly kind: PhantomKind;
  /** Images really there; ignored (one) for enhanced-ct, rtstruct and seg unless it is 0. */
  readonly images: number;
  readonly description: string | null;
  /** Absent: counted up within the study. */
  readonly number?: number | null;
  readonly bodyPart?: string | null;
  readonly manufacturer?: string | null;
  readonly protocol?: string;
  /** What the archive says instead of the true count. */
  readonly announcedImages?: number;
  /** Ends in the same five characters as the series before it. */
  readonly sharesUidEnding?: boolean;
  readonly hasDate?: boolean;
}

export interface PlannedStudy {
  readonly description: string | null;
  readonly studyId?: string;
  readonly admittingDiagnosis?: string;
  readonly series: readonly PlannedSeries[];
}

export interface PlannedPatient {
  readonly patientId: string;
  readonly name?: string;
  readonly sex?: string;
  readonly age?: string;
  readonly birthDate?: string;
  readonly ethnicGroup?: string;
  readonly species?: { readonly code: string; readonly description: string };
  readonly studies: readonly PlannedStudy[];
}

export interface PlannedCollection {
  readonly collection: string;
  readonly access: "public" | "restricted";
  readonly site: string | null;
  readonly licence: { readonly licenseName: string; readonly licenseUri: string };
  readonly doi: string | null;
  readonly html: string | null;
  readonly patients: readonly PlannedPatient[];
}

const series = (
  kind: PhantomKind,
  images: number,
  description: string | null,
  more: Partial<PlannedSeries> = {},
): PlannedSeries => ({ kind, images, description, ...more });

/** DOIs are of the test prefix 10.5072: they lead nowhere. */
export const PHANTOM_PLAN: readonly PlannedCollection[] = [
  {
    collection: "Phantom-CT",
    access: "public",
    site: "Phantom General",
    licence: CC_BY_3,
    doi: "10.5072/phantom-ct",
    html: "<p>Computed tomography of <b>ellipsoids</b>, with &lt;contours&gt; &amp; segmentations.</p>",
    patients: [
      {
        patientId: "PHANTOM-0001",
        name: "Phantom^One",
        sex: "F",
        age: "061Y",
        birthDate: "19600101",
        ethnicGroup: "4",
        studies: [
          {
            description: "CT THORAX W/O CONTRAST",
            studyId: "1",
            admittingDiagnosis: "Lung nodule",
            series: [
              series("scout", 2, "Scout", { bodyPart: null }),
              series("ct", 24, "Thorax 1.0mm, lung/soft, B70f", { protocol: "1_ThoraxRoutine (Adult)" }),
              series("ct", 16, "Recon 2"),
              series("ct", 16, "Recon 2", { sharesUidEnding: true }),
              series("rtstruct", 1, "Contours of the lesion"),
              series("seg", 1, "Segmentation of the lesion"),
            ],
          },
          {
            description: null,
            series: [
              series("pt", 24, "PET WB (AC)"),
              series("ct", 20, "CT for attenuation", { bodyPart: "WHOLEBODY" }),
            ],
          },
        ],
      },
      {
        patientId: "PHANTOM-0002",
        name: "Phantom^Two^^Dr",
        sex: "M",
        age: "007M",
        studies: [
          {
            description: "Follow-up, 3 months; high resolution",
            series: [
              series("ct", 32, "Axial reformats of the whole phantom at 1 mm, with no gap/overlap"),
              series("enhanced-ct", 1, "Enhanced multi-frame"),
            ],
          },
        ],
      },
      {
        patientId: "PHANTOM-0003",
        studies: [
          { description: "CT", series: [series("ct", 18, "No series number", { number: null })] },
          { description: null, series: [series("ct", 18, null, { manufacturer: null, hasDate: false })] },
        ],
      },
      {
        patientId: "PHANTOM-0004",
        sex: "O",
        studies: [
          {
            description: "Disputed",
            series: [
              series("ct", 12, "Announces two images too many", { announcedImages: 14 }),
              series("ct", 12, "Announces what it has"),
            ],
          },
          { description: "Empty", series: [series("ct", 0, "No images at all")] },
        ],
      },
      {
        patientId: "PHANTOM-0005",
        sex: "F",
        age: "055Y",
        studies: [
          {
            description: "CT ABDOMEN",
            series: [
              series("ct", 28, "Arterial phase", { bodyPart: "ABDOMEN" }),
              series("ct", 28, "Venous phase", { bodyPart: "ABDOMEN" }),
              series("rtstruct", 1, "Lesion, venous phase", { bodyPart: "ABDOMEN" }),
            ],
          },
          { description: "PET", series: [series("pt", 26, "Late frame", { bodyPart: "ABDOMEN" })] },
        ],
      },
    ],
  },
  {
    collection: "QIN PHANTOM & CO",
    access: "public",
    site: null,
    licence: CC_BY_4,
    doi: "10.5072/qin-phantom",
    html: "<div><h2>QIN Phantom &amp; Co</h2><script>alert('never run me')</script><p>Magnetic resonance.</p></div>",
    patients: [
      {
        // The same id as a patient of Phantom-CT, and another person: ids are unique only within a collection.
        patientId: "PHANTOM-0001",
        name: "Other^Person",
        sex: "M",
        age: "044Y",
        studies: [
          {
            description: "MR BRAIN",
            series: [
              series("mr", 20, "t1_mprage_sag"),
              series("mr", 20, "t2_tse_tra"),
              series("mr", 15, "ep2d_diff"),
              series("mr", 15, "ep2d_diff"),
              series("rtstruct", 1, "RTSTRUCT, drawn by a third party"),
            ],
          },
        ],
      },
      {
        patientId: 'QIN/002:a*?"<>|',
        studies: [
          {
            description: "Odd/name: study",
            series: [
              series("mr", 16, "a/b/../c", { manufacturer: '"Phantom Healthcare" ' }),
              series("mr", 16, ".", { bodyPart: null }),
            ],
          },
        ],
      },
      {
        patientId: "CON",
        species: { code: "447612001", description: "Mus musculus" },
        studies: [
          { description: "Mouse", series: [series("mr", 12, "mouse_t2", { bodyPart: "ABDOMEN" })] },
          { description: null, series: [series("pt", 18, "FDG dynamic", { bodyPart: "ABDOMEN" })] },
        ],
      },
      {
        patientId: "QIN-003",
        sex: "F",
        studies: [
          {
            description: "Baseline",
            series: [
              series("mr", 16, "DCE pre"),
              series("mr", 16, "DCE post"),
              series("seg", 1, "DCE lesion"),
            ],
          },
          { description: "Visit 2", series: [series("mr", 16, "DCE pre"), series("mr", 16, "DCE post")] },
        ],
      },
    ],
  },
  {
    collection: "Fantôme/αβ",
    access: "public",
    site: "Hôpital Général",
    licence: CC_BY_3,
    doi: null,
    html: null,
    patients: [
      {
        patientId: "Möbius-β1",
        name: "Möbius^Zoë=王^小東",
        sex: "F",
        studies: [
          {
            description: "Tête – contrôle à 6 mois",
            series: [
              series("ct", 20, "Tête 2 mm (os), noyau « dur »", { bodyPart: "HEAD" }),
              series("mr", 18, "T1 après injection", { manufacturer: "Société Générale d'Imagerie, Ltd." }),
            ],
          },
        ],
      },
      {
        patientId: "FAN 002 ",
        studies: [{ description: "PET/CT", series: [series("pt", 24, "TEP"), series("ct", 24, "TDM")] }],
      },
    ],
  },
  {
    collection: "Phantom-Restricted",
    access: "restricted",
    site: "Phantom General",
    licence: CC_BY_NC_4,
    doi: "10.5072/phantom-restricted",
    html: "<p>Only for those who asked.</p>",
    patients: [
      {
        patientId: "SECRET-01",
        sex: "M",
        age: "070Y",
        studies: [
          {
            description: "Head",
            series: [series("ct", 20, "Head axial"), series("rtstruct", 1, "Organs at risk")],
          },
        ],
      },
      {
        patientId: "SECRET-02",
        studies: [
          { description: null, series: [series("mr", 16, "FLAIR"), series("enhanced-ct", 1, "Perfusion")] },
        ],
      },
    ],
  },
];
