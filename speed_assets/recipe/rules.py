"""What must be true between the sections of a recipe: one function a rule, each yields what is wrong and what to set.

Belongs here: rules that need two sections or the graph. Not here: rules within one section (`sections/`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from speed_assets.domain.graph import EXAMPLES, Graph, has_generators, written_by
from speed_assets.domain.task_types import GROUNDED_TYPES, TASK_TYPE_NAMES
from speed_assets.recipe.distil_rules import a_reranker_has_negatives, margins_are_known

if TYPE_CHECKING:
    from speed_assets.recipe.model import Recipe

Rule = Callable[["Recipe", Graph], Iterator[str]]
"""From a recipe and its graph to the problems that the rule finds, in words."""
RULED = ("seed_data", "preference_pairs", "row_verdicts", "final_triplets")
"""Sections that may have rules of rows."""


def stages_have_their_sections(recipe: Recipe, graph: Graph) -> Iterator[str]:
    """A stage of the graph has the section of its name."""
    for name in graph:
        if name in type(recipe).model_fields and getattr(recipe, name) is None and not graph[name].given:
            yield f"`{name}` is missing: final_triplets.source={recipe.final_triplets.source} needs it"


def bounds_have_scores(recipe: Recipe, _graph: Graph) -> Iterator[str]:
    """Bounds on scores need the stage that scores."""
    thresholds = recipe.final_triplets.scores.model_dump(exclude_none=True)
    if thresholds and recipe.row_scores is None:
        yield f"`row_scores` is missing: final_triplets.scores.{next(iter(thresholds))} asks for it"


def verdicts_have_scores(recipe: Recipe, _graph: Graph) -> Iterator[str]:
    """The sample of row_verdicts is drawn by scores."""
    if recipe.row_verdicts and recipe.row_scores is None:
        yield "`row_scores` is missing: row_verdicts reads more of the rows that a score finds suspicious"


def calibration_has_verdicts(recipe: Recipe, _graph: Graph) -> Iterator[str]:
    """A calibration needs the teacher's verdicts."""
    if recipe.final_triplets.scores.calibration is not None and recipe.row_verdicts is None:
        yield "`row_verdicts` is missing: final_triplets.scores.calibration asks for verdicts of the teacher"


def meaning_has_an_embedder(recipe: Recipe, _graph: Graph) -> Iterator[str]:
    """Filters by meaning need an embedding model."""
    near, copies = recipe.final_triplets.near_duplicates.semantic, recipe.final_triplets.contamination.similarity
    if not (recipe.row_scores and recipe.row_scores.embedder) and (near or copies):
        named = "near_duplicates.semantic" if near else "contamination.similarity"
        yield f"`row_scores.embedder` is missing: final_triplets.{named} asks for it"


def twins_are_kept_from_below_the_bound(recipe: Recipe, _graph: Graph) -> Iterator[str]:
    """Pairs are only kept from `row_scores.twin_min` on, so no lower bound can find any."""
    near = recipe.final_triplets.near_duplicates.semantic
    if recipe.row_scores and near and near < recipe.row_scores.twin_min:
        yield (
            f"final_triplets.near_duplicates.semantic={near} is below row_scores.twin_min={recipe.row_scores.twin_min}, "
            "from which on pairs are kept"
        )


def trainings_have_a_generator(recipe: Recipe, graph: Graph) -> Iterator[str]:
    """A loop with generators names their base."""
    if recipe.generator is None and has_generators(graph):
        yield "`generator` is missing: the recipe has generators"


def baselines_are_made(recipe: Recipe, graph: Graph) -> Iterator[str]:
    """A baseline is trained on a table of this recipe."""
    for table in recipe.mteb_scores.baselines:
        if table not in graph:
            yield f"mteb_scores.baselines names {table}, which this recipe does not make"


def compared_models_are_scored(recipe: Recipe, _graph: Graph) -> Iterator[str]:
    """What the model must beat is scored."""
    scored = recipe.mteb_scores
    compared = [*scored.baselines, *["untrained"] * scored.untrained, *["bm25"] * scored.bm25]
    for name in set(recipe.checks.superior.over) - set(compared):
        yield f"checks.superior.over names {name}, which mteb_scores does not score"


def subtopics_have_a_prompt(recipe: Recipe, _graph: Graph) -> Iterator[str]:
    """The compact prompts have none for subtopics."""
    if recipe.topics.expand and recipe.prompts.set == "compact" and recipe.prompts.file is None:
        yield "topics.expand needs a prompt for subtopics: set prompts.set=full, or word `expand` in prompts.file"


def the_microworld_reads_compact_prompts(recipe: Recipe, _graph: Graph) -> Iterator[str]:
    """The simulated teacher reads no natural language."""
    if recipe.teacher.engine == "microworld" and recipe.prompts.set != "compact":
        yield "teacher.engine=microworld reads compact prompts only: set prompts.set=compact"


def endpoints_have_their_engine(recipe: Recipe, _graph: Graph) -> Iterator[str]:
    """Only one engine asks a server for rows."""
    if recipe.generator and recipe.generator.endpoint and recipe.generator.engine != "vllm_server":
        yield "generator.endpoint is for generator.engine=vllm_server"


def constrained_decoding_has_vllm(recipe: Recipe, _graph: Graph) -> Iterator[str]:
    """Only vLLM constrains decoding to a schema."""
    if recipe.generator and recipe.generator.structured and recipe.generator.engine == "transformers":
        yield "generator.structured needs generator.engine=vllm or vllm_server"


def caps_on_money_have_prices(recipe: Recipe, _graph: Graph) -> Iterator[str]:
    """A budget of money needs the prices of its models."""
    if all(cap.money is None for cap in (recipe.money.run, recipe.money.stage, recipe.money.day)):
        return
    for model in (recipe.teacher.model, *(recipe.preference_pairs.panel if recipe.preference_pairs else ())):
        price = recipe.money.prices and recipe.money.prices.models.get(model)
        if not price or price.input_per_million is None or price.output_per_million is None:
            yield f"a cap on money needs the price of {model} in money.prices.models, input and output"


def senior_trains_the_juniors_adapter(recipe: Recipe, graph: Graph) -> Iterator[str]:
    """DPO trains the adapter that supervised fine-tuning made."""
    if any(graph[name].given for name in ("junior_model", "senior_model") if name in graph):
        return  # what adapter it is, if it is one, the file says
    junior, senior = (model.lora if model else None for model in (recipe.junior_model, recipe.senior_model))
    if junior and senior and (junior.r, junior.alpha) != (senior.r, senior.alpha):
        yield "senior_model.lora trains the junior's adapter further: give both the same r and alpha"


def a_server_has_an_address(recipe: Recipe, _graph: Graph) -> Iterator[str]:
    """A teacher over HTTP has an endpoint."""
    if recipe.teacher.engine == "openai" and not recipe.teacher.endpoint:
        yield "teacher.engine=openai needs teacher.endpoint"


def no_more_is_judged_than_written(recipe: Recipe, _graph: Graph) -> Iterator[str]:
    """Judge and revisor read prompts that the junior answered."""
    if not (recipe.junior_data and recipe.preference_pairs and recipe.revision_data):
        return
    for task_type in TASK_TYPE_NAMES:
        asked = getattr(recipe.junior_data.prompts, task_type)
        for field, rows in (
            ("preference_pairs.prompts", recipe.preference_pairs.prompts),
            ("revision_data.rows", recipe.revision_data.rows),
        ):
            wanted = getattr(rows, task_type)
            if wanted > asked:
                yield f"{field}.{task_type}={wanted} is more than junior_data.prompts.{task_type}={asked}"


def something_is_scored(recipe: Recipe, _graph: Graph) -> Iterator[str]:
    """A model is scored on something."""
    evaluation = recipe.evaluation
    if not (evaluation.microworld or evaluation.tasks or evaluation.local or recipe.own_evaluation):
        yield (
            "evaluation names no evaluation: set `microworld`, or list mteb names under `tasks`, folders under `local`; or score on "
            "held-out documents of a corpus (own_evaluation)"
        )


def passages_have_a_corpus(recipe: Recipe, _graph: Graph) -> Iterator[str]:
    """Grounded rows and an evaluation set of one's own come from documents."""
    if recipe.corpus is not None:
        return
    if asked := [
        name for name, rows in recipe.rows_by_stage().items() if any(getattr(rows, t) for t in GROUNDED_TYPES)
    ]:
        yield f"`corpus` is missing: {asked[0]} asks for grounded rows"
    if recipe.own_evaluation:
        yield "`corpus` is missing: own_evaluation asks for held-out documents"


def a_corpus_has_a_real_teacher(recipe: Recipe, _graph: Graph) -> Iterator[str]:
    """The simulated teacher reads no natural language."""
    if recipe.corpus and recipe.teacher.engine == "microworld":
        yield "teacher.engine=microworld writes in a language of its own: a corpus needs a real teacher"


def examples_have_rows(recipe: Recipe, graph: Graph) -> Iterator[str]:
    """Examples of a task type that no row is asked of are of no use."""
    examples = recipe.examples
    if examples is None:
        return
    if EXAMPLES not in graph:
        yield f"examples are of no use: with given.{recipe.given_names()[0]} no stage reads them; remove one of the two"
        return
    if not getattr(recipe.seed_data.rows, examples.task_type):
        asked = ", ".join(name for name in TASK_TYPE_NAMES if getattr(recipe.seed_data.rows, name))
        yield (
            f"examples.task_type={examples.task_type}: seed_data.rows asks for no such rows (it has {asked}): name one of those"
        )
    if examples.few_shot and recipe.teacher.engine == "microworld":
        yield "teacher.engine=microworld reads no examples: set examples.few_shot=0"


def answers_are_among_passages(recipe: Recipe, _graph: Graph) -> Iterator[str]:
    """Answers to the user's queries are searched for in a corpus, for rows from passages."""
    if recipe.examples is None or recipe.examples.answers is None:
        return
    if recipe.corpus is None:
        yield "`corpus` is missing: examples.answers searches its passages"
    elif not recipe.seed_data.rows.grounded:
        yield "examples.answers finds answers for grounded rows, and seed_data asks for none: raise corpus.share"


def examples_stay_on_this_machine(recipe: Recipe, graph: Graph) -> Iterator[str]:
    """Where examples are rows that a hosted teacher would read, somebody has to allow it."""
    examples = recipe.examples
    if examples is None or examples.hosted_teachers or recipe.teacher.on_this_machine():
        return
    if examples.answers:
        yield "examples.answers would send queries to a hosted teacher: set examples.hosted_teachers=true, or leave it out"
    mined = recipe.mined_negatives
    readers = ["row_verdicts"] if "row_verdicts" in graph else []
    readers += ["mined_negatives.doubts_max"] if mined and "mined_negatives" in graph and mined.doubts_max else []
    if recipe.final_triplets.source == "seed_data" and readers:
        yield f"{readers[0]} would send examples to a hosted teacher: leave it out, or set examples.hosted_teachers=true"
    if recipe.rehearsal is not None and "preference_pairs" in graph:
        yield "a rehearsal would send examples to a hosted teacher as stand-ins: set examples.hosted_teachers=true, or rehearse without"


def own_queries_stay_on_this_machine(recipe: Recipe, _graph: Graph) -> Iterator[str]:
    """Where the user's judged queries are pooled, a hosted teacher reads them, and somebody has to allow it."""
    own = recipe.own_evaluation
    if own and own.pooled and own.queries and not (own.hosted_teachers or recipe.teacher.on_this_machine()):
        yield "own_evaluation.pooled would send own_evaluation.queries to a hosted teacher: set own_evaluation.hosted_teachers=true, or leave one out"


def an_own_gain_is_measured(recipe: Recipe, _graph: Graph) -> Iterator[str]:
    """A gain over the base on the user's set needs that set, and the base's scores."""
    if recipe.checks.own_evaluation is None:
        return
    if recipe.own_evaluation is None:
        yield "`own_evaluation` is missing: checks.own_evaluation asks for a gain on it"
    if not recipe.mteb_scores.untrained:
        yield "checks.own_evaluation compares with the untrained base: set mteb_scores.untrained=true"


def no_stage_asks_a_teacher_that_is_not_there(recipe: Recipe, graph: Graph) -> Iterator[str]:
    """With teacher.engine=none only seed_data may want rows, which the user's examples give."""
    if recipe.teacher.engine != "none":
        return
    if recipe.examples is None and "seed_data" in graph:
        yield "`examples` is missing: teacher.engine=none leaves the first rows to them"
    mined = recipe.mined_negatives
    for name, stage in graph.items():
        harmless = name in ("seed_data", "mined_negatives") or (name == "task_list" and stage.task_types == ("sts",))
        if stage.asks_teacher and not harmless:
            yield f"{name} asks the teacher, and teacher.engine=none: {_WITHOUT_TEACHER.get(name, 'leave it out')}"
    if mined and "mined_negatives" in graph and mined.doubts_max:
        yield "mined_negatives asks the teacher about doubts, and teacher.engine=none: set mined_negatives.doubts_max=0"


def what_is_given_is_read(recipe: Recipe, graph: Graph) -> Iterator[str]:
    """Something that is given stands for a stage of the recipe."""
    for name in recipe.given_names():
        if name not in graph:
            yield f"given.{name} is of no use: no other stage of this recipe is made from it; remove it"


def given_rows_are_searched_word_by_word(recipe: Recipe, graph: Graph) -> Iterator[str]:
    """No model compares given rows with evaluation texts, and a bound that is not applied would look as if it were."""
    if "final_triplets" in graph and graph["final_triplets"].given and recipe.final_triplets.contamination.similarity:
        yield (
            "final_triplets.contamination.similarity is for rows that row_scores embeds, and given.final_triplets are not: set it to "
            "null (copies of evaluation texts are searched for word by word)"
        )


def given_rows_stay_on_this_machine(recipe: Recipe, graph: Graph) -> Iterator[str]:
    """Where a hosted teacher would read given rows, somebody has to allow it."""
    rows, mined = recipe.given.final_triplets if recipe.given else None, recipe.mined_negatives
    if rows is None or rows.hosted_teachers or recipe.teacher.on_this_machine():
        return
    if mined and "mined_negatives" in graph and mined.doubts_max:
        yield (
            "mined_negatives.doubts_max would send given rows to a hosted teacher: set it to 0, or "
            "given.final_triplets.hosted_teachers=true"
        )


_WITHOUT_TEACHER = {
    "topic_tree": "set topics.expand=null",
    "examples": "set examples.answers=null",
    "task_list": "start from documents (corpus.share=1)",
    "own_evaluation": "score on a folder of your own (evaluation.local), or on judged queries alone (own_evaluation.queries, rows=0)",
    "preference_pairs": "set senior_data.writer=junior_model",
    "revision_data": "set final_triplets.source=senior_data",
    "row_verdicts": "set row_verdicts=null and final_triplets.scores.calibration=null",
}
"""By stage, what leaves it out."""


def wanted_rows_have_a_first_block(recipe: Recipe, _graph: Graph) -> Iterator[str]:
    """Blocks follow a first one, up to a ceiling that is not below it."""
    wanted = recipe.final_triplets.wanted
    if wanted is None:
        return
    if given := {"final_triplets", "embedding_model"} & {*recipe.given_names()}:
        yield f"final_triplets.wanted is of no use: given.{min(given)} leaves no rows to write; remove one of both"
        return
    if not wanted.rows.total():
        yield "final_triplets.wanted.rows wants no rows: name some, or remove `wanted`"
    written = written_by(recipe.final_triplets.source)
    first = recipe.rows_by_stage()[written]
    for name in TASK_TYPE_NAMES:
        rows, most, asked = (getattr(numbers, name) for numbers in (wanted.rows, wanted.candidates_max, first))
        if rows and not asked:
            yield f"final_triplets.wanted.rows.{name}={rows}: {written} asks for no such rows, so there is no first block"
        if rows and most < max(rows, asked):
            yield (
                f"final_triplets.wanted.candidates_max.{name}={most} is below the {max(rows, asked)} rows that "
                f"{'are wanted' if rows > asked else 'the first block asks for'}"
            )


def drawn_languages_can_be_written(recipe: Recipe, _graph: Graph) -> Iterator[str]:
    """A language that rows are drawn in is one that writers know and rules accept."""
    if recipe.languages is None:
        return
    if recipe.teacher.engine == "microworld":
        yield "teacher.engine=microworld writes in a language of its own: `languages` needs a real teacher"
    for name in RULED:
        rules = getattr(getattr(recipe, name), "rules", None)
        if rules is None:
            continue
        if lacking := sorted({*recipe.languages.shares} - {*rules.languages}):
            yield (
                f"{name}.rules.languages lacks {', '.join(lacking)}, which `languages` draws: leave the field out, and rows are "
                "judged by the languages drawn for them"
            )
        if rules.topic_words_min:
            yield f"{name}.rules.topic_words_min asks for words of the topic, which texts in another language lack: set it to 0"


RULES: tuple[Rule, ...] = (
    something_is_scored,
    passages_have_a_corpus,
    a_corpus_has_a_real_teacher,
    stages_have_their_sections,
    bounds_have_scores,
    verdicts_have_scores,
    calibration_has_verdicts,
    meaning_has_an_embedder,
    margins_are_known,
    a_reranker_has_negatives,
    twins_are_kept_from_below_the_bound,
    trainings_have_a_generator,
    baselines_are_made,
    compared_models_are_scored,
    subtopics_have_a_prompt,
    the_microworld_reads_compact_prompts,
    endpoints_have_their_engine,
    constrained_decoding_has_vllm,
    caps_on_money_have_prices,
    senior_trains_the_juniors_adapter,
    a_server_has_an_address,
    no_more_is_judged_than_written,
    examples_have_rows,
    answers_are_among_passages,
    examples_stay_on_this_machine,
    drawn_languages_can_be_written,
    own_queries_stay_on_this_machine,
    an_own_gain_is_measured,
    no_stage_asks_a_teacher_that_is_not_there,
    wanted_rows_have_a_first_block,
    what_is_given_is_read,
    given_rows_are_searched_word_by_word,
    given_rows_stay_on_this_machine,
)
"""In the order in which problems are listed."""


def broken_recipe_rules(recipe: Recipe) -> list[str]:
    """Every problem of a recipe between its sections, in words."""
    graph = recipe.graph()
    return [problem for rule in RULES for problem in rule(recipe, graph)]
