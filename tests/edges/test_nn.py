"""What every public function and module of ``m3jax.nn`` does at the edges."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax import nn
from m3jax.nn import (
    alignment_head,
    compressors,
    decoder,
    generation,
    kernel_product,
    layers,
    moe,
    patches,
    pruning,
    state_space,
    state_space_types,
    transceiver,
    vit,
)
from m3jax.nn.compressors import contract, merging, selection
from m3jax.nn.moe import config as moe_config
from m3jax.nn.moe import paths as moe_paths
from m3jax.nn.moe import selection as moe_selection
from m3jax.nn.moe import slots
from m3jax.nn.speculation import drafting, policies, verification
from m3jax.testing import completeness
from m3jax.testing.edge_values import DTYPES, Row, check

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = jnp.array([1.5, 0.5, 2.0])
TABLE = jnp.asarray(RNG.normal(size=(3, 4)).astype(np.float32))
TOKENS = TABLE[None] + 1.0
MASK = jnp.ones((1, 3), bool)
SCORES = jnp.array([[0.5, 3.0, 1.0]])
HEADS = jnp.asarray(RNG.normal(size=(1, 3, 2, 4)).astype(np.float32))
KERNEL = jnp.asarray(RNG.normal(size=(4, 2)).astype(np.float32))
LAW = jnp.array([[0.2, 0.5, 0.3]])
WORDS = jnp.array([1], jnp.int32)
WEIGHTS = jnp.array([[0.7, 0.3], [0.0, 1.0], [1.0, 0.0]])
KERNELS = moe_config.Kernels(
    *(jnp.asarray(RNG.normal(size=s).astype(np.float32)) for s in [(2, 4, 3)] * 2),
    jnp.asarray(RNG.normal(size=(2, 3, 4)).astype(np.float32)),
)
ROUTED = slots.Slots(jnp.array([0, 2, 4, 6]), jnp.array([[0, 4], [1, 4], [2, 4]]))
ELBO = state_space_types.Elbo(-X, X, X, X)

# Infinite inputs of a network are NaN or not as its activations have it; a huge one
# overflows somewhere. Only NaN must stay NaN.
WILD = dict.fromkeys(("inf", "ninf", "huge"), "any")
FIXED = "empty one"
# What is poked is a number in a row whose order or choice is the output.
CHOICE = {"nan": "any"}
# Whom a token merges with.
LOST = {"nan": "any", "inf": "any", "ninf": "any"}


def net(module, *args, method=None, **kwargs):
    """A module as a function of its inputs, its parameters drawn."""
    params = jax.jit(functools.partial(module.init, method=method))(KEY, *args)

    def apply(*inputs):
        return module.apply(params, *inputs, method=method, **kwargs)

    return apply


def compress(name):
    module = compressors.make_compressor(name, 2 if name != "window_pool" else 1)
    return lambda x, mask: module.apply({}, x, mask, method="compress").tokens


def judged(target, draft):
    """The law of the word after one draft, and how well both agree."""
    coins = jnp.full((1, 1), 0.5)
    found = verification.judge(
        jnp.stack([target, target], 1), draft[:, None], WORDS[:, None], coins > 0, coins
    )
    return found.final_law, found.agreement


def policy(made):
    """The state of a policy after a round, as a function of what it saw."""

    def update(seen):
        yes = jnp.ones(seen.shape, bool)
        fed = policies.Feedback(seen, yes, seen, yes, yes[:, 0])
        return made.update(made.init(len(seen)), fed)

    return update


ROWS = [
    # Layers.
    Row(kernel_product.matmul, (TABLE, KERNEL), (0, 1), inf="any", ninf="any"),
    Row(
        layers.attention,
        (HEADS, HEADS, HEADS, MASK[:, None]),
        (0, 1, 2),
        inf="any",
        ninf="any",
        grad="zero tiny",
        skip=FIXED,
    ),
    Row(
        layers.attention_received,
        (HEADS, HEADS, MASK[:, None]),
        (0, 1),
        inf="any",
        ninf="any",
        skip=FIXED,
    ),
    Row(
        lambda gate: layers.attention(HEADS, HEADS, HEADS, gate=gate),
        (SCORES,),
        0,
        "layers.attention",
        inf="nan",
        ninf="any",
        grad="zero tiny huge",
        skip=FIXED,
    ),
    Row(
        lambda x, angle: layers.apply_rope(x, (jnp.cos(angle), jnp.sin(angle))),
        (HEADS, HEADS[..., :1, :2]),
        0,
        "layers.apply_rope",
        inf="any",
        ninf="any",
    ),
    Row(
        net(layers.RMSNorm(), TABLE),
        (TABLE,),
        0,
        "layers.RMSNorm",
        inf="nan",
        ninf="nan",
        huge="nan",
        grad="zero tiny",
    ),
    Row(
        net(layers.SwiGlu(4, layers.residual_init(1)), TABLE),
        (TABLE,),
        0,
        "layers.SwiGlu",
        **WILD,
    ),
    Row(net(layers.GeluMlp(4), TABLE), (TABLE,), 0, "layers.GeluMlp", **WILD),
    Row(
        net(layers.SelfAttention(2, layers.residual_init(1)), TOKENS, MASK),
        (TOKENS, MASK),
        0,
        "layers.SelfAttention",
        **WILD,
        skip=FIXED,
    ),
    # Compressors: padding harmless; NaN of a valid token stays with it.
    Row(contract.take, (TOKENS, jnp.array([[0, 2]])), **CHOICE, skip=FIXED),
    Row(contract.unmerge, (TOKENS, MASK, jnp.array([[0, 1, 2]])), mask=1, skip=FIXED),
    *(
        Row(
            compress(name),
            (TOKENS, MASK),
            0,
            f"compressors.{where}.compress",
            mask=1,
            skip=FIXED,
            **more,
        )
        for name, where, more in (
            ("window_pool", "windows.WindowPool", {}),
            ("stride", "windows.Stride", {}),
            # A norm that is NaN is the lowest: another token is kept.
            ("top_k_norm", "selection.TopKNorm", {"nan": "any"}),
            ("token_merging", "merging.TokenMerging", LOST),
        )
    ),
    Row(
        lambda x, mask: compressors.make_compressor("identity", 3).apply(
            {}, x, mask, method="compress"
        ),
        (TOKENS, MASK),
        0,
        "compressors.windows.Identity.compress",
        mask=1,
        skip=FIXED,
    ),
    Row(
        net(compressors.make_compressor("learned_queries", 2), TOKENS, MASK),
        (TOKENS, MASK),
        0,
        "compressors.learned_queries.LearnedQueries.compress",
        **WILD,
        mask=1,
        skip=FIXED,
    ),
    Row(
        lambda scores, mask: selection.select(TOKENS, mask, scores, 2).tokens,
        (SCORES, MASK),
        0,
        "compressors.selection.select",
        **CHOICE,
        mask=1,
        skip=FIXED,
    ),
    Row(
        lambda mask, scores: selection.best_places(mask, scores, 2)[0],
        (MASK, SCORES),
        1,
        "compressors.selection.best_places",
        nan=lambda places: places[0].tolist() == [1, 2],
        ninf=lambda places: places[0].tolist() == [1, 2],
        inf=lambda places: places[0].tolist() == [0, 1],
        skip=FIXED,
    ),
    Row(
        lambda x, mask: merging.merge_step(x, mask, mask * 1.0, 2).tokens,
        (TOKENS, MASK),
        0,
        "compressors.merging.merge_step",
        **LOST,
        mask=1,
        skip=FIXED,
    ),
    Row(
        merging.size_bias,
        (SCORES,),
        inf=lambda x: np.isposinf(x[0, 0, 0]),
        skip="empty",
    ),
    Row(
        lambda x, mask: compressors.keep(x, mask, 2)[0],
        (TOKENS, MASK),
        0,
        "compressors.progressive.keep",
        mask=1,
        skip=FIXED,
    ),
    Row(
        lambda snr: compressors.length_for_snr(snr, (0.0, 10.0), (16, 8, 4)),
        (X,),
        0,
        "compressors.progressive.length_for_snr",
        nan=lambda n: n[0] == 16,  # of a link that nobody knows
        inf=lambda n: n[0] == 4,
        ninf=lambda n: n[0] == 16,
        huge=lambda n: n[0] == 4,
    ),
    # Encoders and what they are cut from.
    Row(
        lambda x: patches.patchify(x, (1, 1)),
        (TABLE[None, ..., None],),
        0,
        "patches.patchify",
        skip=FIXED,
    ),
    Row(
        lambda x: patches.neighbourhoods(x, 1),
        (TABLE[None, ..., None],),
        0,
        "patches.neighbourhoods",
        skip=FIXED,
    ),
    Row(
        net(patches.ConvStem((2,)), jnp.ones((1, 4, 4, 1))),
        (jnp.arange(16.0).reshape(1, 4, 4, 1),),
        0,
        "patches.ConvStem",
        **WILD,
        skip=FIXED,
    ),
    Row(
        net(
            vit.ViT(vit.ViTConfig(8, 1, 2, 8, (4, 4, 1), (2, 2))),
            jnp.ones((1, 4, 4, 1)),
        ),
        (jnp.arange(16.0).reshape(1, 4, 4, 1),),
        0,
        "vit.ViT",
        **WILD,
        skip=f"{FIXED} bool int32 uint8 uint32",  # told to be scaled first
    ),
    Row(
        lambda x, snr: net(transceiver.Transmitter(2), TOKENS, X[:1])(x, snr),
        (TOKENS, X[:1]),
        (0, 1),
        "transceiver.Transmitter",
        **WILD,
        skip=FIXED,
    ),
    Row(
        lambda y, snr: net(transceiver.Receiver(4, 4), TOKENS, X[:1])(y, snr),
        (TOKENS, X[:1]),
        (0, 1),
        "transceiver.Receiver",
        **WILD,
        skip=FIXED,
    ),
    Row(
        transceiver.snr_features,
        (X,),
        inf="finite",
        ninf="finite",
        huge="finite",
        grad="inf ninf zero huge",
    ),
    Row(
        net(alignment_head.AlignmentHead(2), TOKENS, MASK),
        (TOKENS, MASK),
        0,
        "alignment_head.AlignmentHead",
        **WILD,
        mask=1,
        skip=FIXED,
    ),
    Row(
        lambda a, b, valid: net(alignment_head.AlignmentLoss(), TABLE, TABLE)(
            a, b, valid
        ),
        (TABLE, TABLE[::-1], MASK[0]),
        (0, 1),
        "alignment_head.AlignmentLoss",
        inf="any",
        ninf="any",
        mask=2,
        skip="empty",
    ),
    # Tokens left out.
    Row(
        lambda x, mask: pruning.gather(
            x, pruning.Kept(jnp.array([[0, 2]]), mask[:, :2])
        ),
        (TOKENS, MASK),
        0,
        "pruning.gather",
        skip=FIXED,
    ),
    Row(
        lambda scores: pruning.keep_best(scores, 2).places,
        (SCORES,),
        0,
        "pruning.keep_best",
        nan=lambda places: places[0].tolist() == [1, 2],
        skip=FIXED,
    ),
    Row(
        lambda scores: pruning.window_scores(scores, 3),
        (jnp.repeat(SCORES, 2, axis=1),),
        0,
        "pruning.window_scores",
        skip=FIXED,
    ),
    Row(pruning.straight_through, (X,), nan="any", grad="zero tiny"),
    # Experts.
    Row(moe_selection.renormalise, (LAW,), inf="any", ninf="any", grad="zero tiny"),
    Row(
        lambda probs: moe_selection.limit(probs, 2),
        (LAW,),
        0,
        "moe.selection.limit",
        skip=FIXED,
    ),
    Row(
        lambda probs, mask: moe_selection.select_top_k(probs, mask, top_k=2),
        (jnp.tile(LAW, (3, 1)), MASK[0]),
        0,
        "moe.selection.select_top_k",
        mask=1,
        inf="any",
        ninf="any",
        skip=FIXED,
    ),
    Row(
        lambda weights: moe_selection.within(weights, 1),
        (WEIGHTS,),
        0,
        "moe.selection.within",
        skip=FIXED,
    ),
    *(
        Row(
            functools.partial(fn, max_experts=2),
            (TABLE, WEIGHTS, KERNELS),
            0,
            f"moe.{where}",
            **WILD,
            skip=FIXED,
        )
        for where, fn in (
            ("paths.run_dense", moe_paths.run_dense),
            ("paths.run_grouped", moe_paths.run_grouped),
            ("paths.run_experts", moe_paths.run_experts),
            ("buckets.run_buckets", moe.buckets.run_buckets),
        )
    ),
    Row(
        lambda x, mask: net(moe.MoeLayer(moe.MoeConfig(2, 1, 3)), TOKENS, MASK)(
            x, mask
        )[0],
        (TOKENS, MASK),
        0,
        "moe.layer.MoeLayer",
        **WILD,
        mask=1,
        skip=FIXED,
    ),
    *(
        Row(
            lambda probs, mask, fn=fn: fn(
                moe.Routing(probs, probs, None, None, *jnp.ones((2, 3), jnp.int32)),
                mask,
            ),
            (jnp.tile(LAW, (3, 1)), MASK[0]),
            0,
            f"moe.losses.{name}",
            **WILD,
            mask=1,
            skip=FIXED,
        )
        for name, fn in (
            ("load_balance_loss", moe.load_balance_loss),
            ("router_z_loss", moe.router_z_loss),
        )
    ),
    Row(lambda w: slots.asked(w, 1)[0], (WEIGHTS,), 0, "moe.slots.asked", skip=FIXED),
    Row(
        lambda x: slots.dispatch(x, ROUTED),
        (TABLE,),
        0,
        "moe.slots.dispatch",
        skip=FIXED,
    ),
    Row(
        lambda x: slots.collect(x, ROUTED),
        (jnp.tile(X[:1, None], (4, 2)),),
        0,
        "moe.slots.collect",
        skip=FIXED,
    ),
    Row(
        lambda x, w: slots.combine(x, w, ROUTED),
        (jnp.ones((4, 2)), WEIGHTS),
        (0, 1),
        "moe.slots.combine",
        inf="any",
        ninf="any",
        skip=FIXED,
    ),
    # Speculation.
    Row(drafting.normalised_entropy, (LAW,), inf="nan", ninf="any", skip=FIXED),
    Row(
        verification.accept_probability,
        (LAW, LAW[:, ::-1], jnp.array([0])),
        (0, 1),
        inf="any",
        ninf="any",
        grad="zero tiny",
        skip=FIXED,
    ),
    Row(verification.residual, (LAW, LAW[:, ::-1]), (0, 1), inf="any", ninf="any"),
    Row(verification.agreement, (LAW, LAW[:, ::-1]), (0, 1)),
    Row(
        judged,
        (LAW, LAW[:, ::-1]),
        (0, 1),
        "speculation.verification.judge",
        inf="any",
        ninf="any",
        skip=FIXED,
    ),
    *(
        Row(
            policy(made),
            (SCORES / 4,),
            0,
            f"speculation.policies.{name}",
            inf="any",
            ninf="any",
            skip=FIXED,
        )
        for name, made in (
            ("confidence_stopped", policies.confidence_stopped(0.5, 3)),
            ("paper", policies.paper(0.5, max_draft=3)),
            ("throughput_optimal", policies.throughput_optimal(X)),
        )
    ),
    # State-space model.
    Row(
        lambda x: ELBO._replace(log_likelihood=x).total(),
        (X,),
        0,
        "state_space_types.Elbo.total",
        skip="empty",
    ),
    Row(
        lambda x: ELBO._replace(fast_kl=x).loss(0.1),
        (X,),
        0,
        "state_space_types.Elbo.loss",
        skip=FIXED,
    ),
]


def model_rows():
    """Rows of whole models, whose programs take seconds to compile."""
    model = decoder.Decoder(decoder.DecoderConfig(5, 8, 1, 2, 1, 8))
    embeds = jnp.asarray(RNG.normal(size=(1, 3, 8)).astype(np.float32))
    params = model.init(KEY, embeds, MASK)
    series = state_space.StateSpace(3, fast_dim=2, slow_dim=2, hidden_dim=4)
    observed, seen = TABLE[:, :3], jnp.ones((3, 3), bool)
    filters = series.init(KEY, observed)
    padded = {**WILD, "mask": 1, "skip": FIXED}
    words = {**padded, "nan": "any"}

    def decode(x, mask):
        return model.apply(params, x, mask)[0][:, -1]

    def generate(x, mask):
        return generation.generate(model, params["params"], x, mask, 2, eos=-1)

    def elbo(x, mask):
        return series.apply(filters, x, KEY, mask, method="elbo").total()

    def filtered(x, mask):
        return series.apply(filters, x, mask, method="filter")[1].signal.mean

    def scored(method):
        return lambda x: model.apply(params, x, method=method)

    return [
        Row(decode, (embeds, MASK), 0, "decoder.Decoder", **padded),
        Row(scored("logits"), (embeds,), 0, "decoder.Decoder.logits", **WILD),
        Row(scored("similarity"), (embeds,), 0, "decoder.Decoder.similarity", **WILD),
        # Words: of NaN scores there is no most probable one.
        Row(generate, (embeds, MASK), 0, "generation.generate", **words),
        Row(elbo, (observed, seen), 0, "state_space.StateSpace.elbo", **padded),
        Row(filtered, (observed, seen), 0, "state_space.StateSpace.filter", **padded),
    ]


MODELS = (
    *("decoder.Decoder", "decoder.Decoder.logits", "decoder.Decoder.similarity"),
    *("generation.generate", "state_space.StateSpace.elbo"),
    "state_space.StateSpace.filter",
)
COUNTS = "counts and shapes, no numbers of the user's"
SETTINGS = "settings"
PARTS = "a part of a model that has a row"
EXEMPT = {
    **{f"vit.{n}": SETTINGS for n in ("grid_shape", "num_tokens", "stack")},
    **{f"vit.ViT.{n}": PARTS for n in ("embed", "finish", "setup")},
    **{f"decoder.Decoder.{n}": PARTS for n in ("embed", "setup")},
    **{
        f"state_space.StateSpace.{n}": PARTS
        for n in ("forecast", "initial_state", "setup", "smooth")
    },
    "state_space.StateSpace": "elbo by another name",
    "speculation.policies.fixed": SETTINGS,
    **{
        f"speculation.{n}.*": "decoders and words; held by their tests"
        for n in ("caches", "counts", "decoding", "exits", "parties", "rounds")
    },
    "speculation.drafting.draft": "a part of speculate; held by its tests",
    "speculation.protocols.*": SETTINGS,
    "speculation.verification.judge_greedy": "words",
    "compressors.contract.Compressor": PARTS,
    "compressors.contract.Compressor.compress": "abstract",
    "compressors.contract.check_inputs": "shapes",
    "compressors.make.*": SETTINGS,
    "compressors.selection.Random.compress": "scores that it draws; see select",
    "compressors.selection.TopKAttention.compress": "see select",
    "decoder.init_cache": SETTINGS,
    "flops.*": COUNTS,
    "layers.residual_init": SETTINGS,
    "layers.rope_tables": "positions",
    "lora.*": "parameters; held by their tests",
    "moe.config.MoeConfig.capacity": COUNTS,
    "moe.parallel.*": "several devices; held to the other paths by their tests",
    "moe.slots.match": COUNTS,
    "moe.slots.ranks": COUNTS,
    "patches.z_order": COUNTS,
    "pruning.members": COUNTS,
    "pruning.num_kept": SETTINGS,
    "state_space_cell.*": PARTS,
    "state_space_types.complete": "shapes",
    "state_space_types.draw_noise": "a key in",
    "vit.token_order": COUNTS,
    "vit_stages.*": "layers of vit.ViT; padding held by test_padding",
}


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_edges(row):
    check(row, dtypes=[], quick=True)


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_edges_in_every_type(row):
    check(row, dtypes=DTYPES)


@pytest.mark.slow
@pytest.mark.parametrize("place", range(len(MODELS)), ids=MODELS)
def test_edges_of_models(place):
    row = model_rows()[place]
    assert row.covers == MODELS[place]
    check(row, dtypes=["bfloat16", "float64"])


def test_every_function_has_a_row_or_a_reason():
    covered = [*(row.covers for row in ROWS), *MODELS]
    assert completeness.missing(nn, covered, EXEMPT) == []
