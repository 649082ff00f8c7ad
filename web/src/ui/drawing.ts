// How the answer to a question of a report is drawn, wherever it stands: on the page of its report or on a board.
import type { ComponentChildren } from "preact";
import type { Answer, Question } from "../api/types";
import type { TableData } from "../chart/table";

export interface Drawing<T = any> {
  draw(answer: Answer<T>): ComponentChildren;
  table(answer: Answer<T>): TableData;
  summary(answer: Answer<T>): string;
}

/** What a question is drawn by; `id` is the tile's, which the address calls its bars by. Where the question has the filters of the page,
 * a value of its breakdown keeps only it. */
export type Draw = (question: Question, id: string, is_filtered?: boolean) => Drawing;

/** What the question says itself: days are those of its zone, wherever it is drawn. */
export function times_of({ body }: Question): { interval: string; zone: string } {
  return { interval: String(body.interval ?? "day"), zone: String(body.timezone ?? "UTC") };
}
