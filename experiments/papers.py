"""The papers whose figures these are: every experiment names one of them as its `PAPER`."""

from lpml.runs import Paper

HALP = Paper(
    title="High-Accuracy Low-Precision Training",
    authors="Christopher De Sa, Megan Leszczynski, Jian Zhang, Alana Marzoev, "
    "Christopher R. Aberger, Kunle Olukotun, Christopher Ré",
    venue="2018",
    arxiv="1803.03383",
)
STRAIGHT_THROUGH = Paper(
    title="Understanding Straight-Through Estimator in Training Activation Quantized Neural "
    "Nets",
    authors="Penghang Yin, Jiancheng Lyu, Shuai Zhang, Stanley Osher, Yingyong Qi, Jack Xin",
    venue="ICLR 2019",
    arxiv="1903.05662",
)
LOSS_AWARE = Paper(
    title="Loss-aware Weight Quantization of Deep Networks",
    authors="Lu Hou, James T. Kwok",
    venue="ICLR 2018",
    arxiv="1802.08635",
)
QUANTIZED_MODELS = Paper(
    title="Analysis of Quantized Models",
    authors="Lu Hou, Ruiliang Zhang, James T. Kwok",
    venue="ICLR 2019",
)
VS_QUANT = Paper(
    title="VS-Quant: Per-vector Scaled Quantization for Accurate Low-Precision Neural Network "
    "Inference",
    authors="Steve Dai, Rangharajan Venkatesan, Haoxing Ren, Brian Zimmer, William J. Dally, "
    "Brucek Khailany",
    venue="MLSys 2021",
    arxiv="2102.04503",
)
EXSDOTP = Paper(
    title="MiniFloat-NN and ExSdotp: An ISA Extension and a Modular Open Hardware Unit for "
    "Low-Precision Training on RISC-V Cores",
    authors="Luca Bertaccini, Gianna Paulin, Tim Fischer, Stefan Mach, Luca Benini",
    venue="ARITH 2022",
    arxiv="2207.03192",
)
POSITS = Paper(
    title="Beating Floating Point at its Own Game: Posit Arithmetic",
    authors="John L. Gustafson, Isaac Yonemoto",
    venue="Supercomputing Frontiers and Innovations 4(2), 2017",
)
PERCIVAL = Paper(
    title="PERCIVAL: Open-Source Posit RISC-V Core with Quire Capability",
    authors="David Mallasén, Raul Murillo, Alberto A. Del Barrio, Guillermo Botella, "
    "Luis Piñuel, Manuel Prieto-Matias",
    venue="IEEE TETC 10(3), 2022",
    arxiv="2111.15286",
)
SHAMPOO = Paper(
    title="Scalable Second Order Optimization for Deep Learning",
    authors="Rohan Anil, Vineet Gupta, Tomer Koren, Kevin Regan, Yoram Singer",
    venue="2020",
    arxiv="2002.09018",
)
SHAMPOO_4BIT = Paper(
    title="4-bit Shampoo for Memory-Efficient Network Training",
    authors="Sike Wang, Pan Zhou, Jia Li, Hua Huang",
    venue="NeurIPS 2024",
    arxiv="2405.18144",
)
FP8 = Paper(
    title="FP8 Formats for Deep Learning",
    authors="Paulius Micikevicius, Dusan Stosic, Neil Burgess, Marius Cornea, Pradeep Dubey, "
    "Richard Grisenthwaite, Sangwon Ha, Alexander Heinecke, Patrick Judd, John Kamalu, "
    "Naveen Mellempudi, Stuart Oberman, Mohammad Shoeybi, Michael Siu, Hao Wu",
    venue="2022",
    arxiv="2209.05433",
)
