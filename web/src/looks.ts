// How tracks and states are drawn: each track has its own shape, shade and colour, so that grey is enough.
import type { State } from "./api";
import { svg } from "./dom";

export const TRACK_LOOKS = 6;

type Shape = (x: number, y: number, r: number) => string;

const polygon =
  (...points: [number, number][]): Shape =>
  (x, y, r) =>
    `M${points.map(([dx, dy]) => `${(x + dx * r).toFixed(1)} ${(y + dy * r).toFixed(1)}`).join("L")}Z`;

const SHAPES: Shape[] = [
  (x, y, r) => `M${(x - r).toFixed(1)} ${y.toFixed(1)}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`,
  polygon([-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]),
  polygon([0, -1.2], [1.1, 0.85], [-1.1, 0.85]),
  polygon([0, -1.3], [1.2, 0], [0, 1.3], [-1.2, 0]),
  polygon([0, 1.2], [1.1, -0.85], [-1.1, -0.85]),
  polygon([-0.4, -1.1], [0.4, -1.1], [0.4, -0.4], [1.1, -0.4], [1.1, 0.4], [0.4, 0.4], [0.4, 1.1], [-0.4, 1.1], [-0.4, 0.4], [-1.1, 0.4], [-1.1, -0.4], [-0.4, -0.4]),
];

/** The look of a track: its place among all of the lake's. */
export const lookOf = (track: number, tracks: number[]): number => Math.max(0, tracks.indexOf(track)) % TRACK_LOOKS;

export const marker = (look: number, x: number, y: number, r: number): string => (SHAPES[look] ?? SHAPES[0]!)(x, y, r);

/** What is drawn into a hollow marker to tell its state; open water is filled. */
export function inside(state: State, x: number, y: number): string {
  if (state === "wet_snow") return `M${x - 0.6} ${y}h1.2`;
  if (state === "rough") return `M${x - 2.2} ${y}h4.4`;
  return "";
}

/** A marker for legends and readouts. */
export function swatch(look: number, state: State): SVGSVGElement {
  const signs = inside(state, 8, 8);
  return svg(
    "svg",
    { class: `swatch look-${look}`, width: 16, height: 16, viewBox: "0 0 16 16", "aria-hidden": "true" },
    svg("path", { class: `marker ${state}`, d: marker(look, 8, 8, 4.5) }),
    signs ? svg("path", { class: `sign ${state}`, d: signs }) : null,
  );
}

export function lineSwatch(kind: string): SVGSVGElement {
  const parts = {
    fused: [svg("rect", { class: "fused-band", x: 0, y: 3, width: 26, height: 10 }), svg("path", { class: "fused", d: "M0 8H26" })],
    trend: [svg("rect", { class: "trend-band", x: 0, y: 3, width: 26, height: 10 }), svg("path", { class: "trend", d: "M0 8H26" })],
    season: [svg("path", { class: "season", d: "M4 8H22" })],
    interval: [svg("path", { class: "interval", d: "M13 1V15" })],
    missing: [svg("path", { class: "missing", d: "M10 5l6 6M16 5l-6 6" })],
    before: [svg("path", { class: "mark before", d: "M13 0V16" })],
  }[kind];
  return svg("svg", { class: "swatch", width: 26, height: 16, viewBox: "0 0 26 16", "aria-hidden": "true" }, ...(parts ?? []));
}
